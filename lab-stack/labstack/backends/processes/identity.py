"""The user that PostgreSQL runs as. PostgreSQL refuses to run as root, so root drops its privileges.

Root has two options, tried in this order:

1. Run PostgreSQL as an unprivileged user, if that user can reach the program and the data.
2. Run it in a separate user namespace (Linux). Root appears there as that user and keeps its files, so other users
   need no access.

Every other user runs PostgreSQL under their own account.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labstack.errors import ProgramMissing

UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Identity:
    """How to start PostgreSQL's programs: with a command prefix, or as another user and group."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None

    def own(self, folder: Path) -> None:
        """Make this identity the owner of a folder and its content."""
        if self.user is None or self.group is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.user, self.group, follow_symlinks=False)


@cache
def for_postgres(program: Path, data: Path) -> Identity:
    """Choose the identity under which `program` can use folders below `data`.

    Raises
    ------
    ProgramMissing
        If the current user is root and neither option works.
    """
    if os.geteuid() != 0:
        return Identity()
    account = _unprivileged_account()
    if account and _reachable(program, account) and _reachable(data, account):
        return Identity(user=account.pw_uid, group=account.pw_gid)
    uid, gid = (account.pw_uid, account.pw_gid) if account else (65534, 65534)
    unshare = shutil.which("unshare")
    if unshare:
        prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={gid}")
        if (
            subprocess.run([*prefix, str(program), "--version"], capture_output=True, cwd="/", timeout=20).returncode
            == 0
        ):
            return Identity(prefix=prefix)
    raise ProgramMissing(
        "PostgreSQL refuses to run as root, and the lab can't run it as another user on this machine: "
        f"an unprivileged user can't reach {program} or {data}, and user namespaces are not allowed.",
        next_step="run the lab as an unprivileged user, or set XDG_STATE_HOME to a folder that every user can enter, "
        "such as one in /var/lib",
    )


def _unprivileged_account() -> pwd.struct_passwd | None:
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _reachable(path: Path, account: pwd.struct_passwd) -> bool:
    """Report whether `account` may enter every parent folder of `path`."""
    for folder in path.resolve().parents:
        try:
            status = folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        owner_bit, group_bit, other_bit = 0o100, 0o010, 0o001
        if status.st_uid == account.pw_uid:
            allowed = status.st_mode & owner_bit
        elif status.st_gid == account.pw_gid:
            allowed = status.st_mode & group_bit
        else:
            allowed = status.st_mode & other_bit
        if not allowed:
            return False
    return True
