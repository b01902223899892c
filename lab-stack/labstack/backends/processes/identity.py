"""The user that PostgreSQL runs as. PostgreSQL refuses to run as root, so root drops its privileges.

Root has three options, tried in this order:

1. Run PostgreSQL as an unprivileged user, if that user can reach the program and the data.
2. Run it in a separate user namespace (Linux). Root appears there as that user and keeps its files, so other users
   need no access.
3. Run it as an unprivileged user that keeps one capability: to pass through folders that are closed to it, such as
   /root in a container that allows no user namespaces.

Every other user runs PostgreSQL under their own account.
"""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labstack.config.environment import run
from labstack.errors import ProgramMissing

UNPRIVILEGED = ("postgres", "nobody")
CAPABILITIES = ("dac_read_search", "dac_override")
"""Capabilities with which a user passes through closed folders; the second is one of a container's default ones.

https://man7.org/linux/man-pages/man7/capabilities.7.html
"""


@dataclass(frozen=True)
class Identity:
    """How to start PostgreSQL's programs: with a command prefix, or as another user and group.

    Attributes
    ----------
    description : str
        The identity in words.
    prefix : tuple of str
        Command that precedes the program's.
    user, group : int, optional
        Ids to run as.
    owner : tuple of int, optional
        User and group that own the data; None if the current user owns them.
    """

    description: str = "as your user"
    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None
    owner: tuple[int, int] | None = None

    def own(self, folder: Path) -> None:
        """Make this identity the owner of a folder and its content."""
        if self.owner is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *self.owner, follow_symlinks=False)


@cache
def for_postgres(program: Path, data: Path) -> Identity:
    """Choose the identity under which `program` can use folders below `data`.

    Raises
    ------
    ProgramMissing
        If the current user is root and none of the three options works.
    """
    if os.geteuid() != 0:
        return Identity()
    account = _unprivileged_account()
    uid, gid = (account.pw_uid, account.pw_gid) if account else (65534, 65534)
    if account and _reachable(program, account) and _reachable(data, account):
        return Identity(f"as user {account.pw_name}", user=uid, group=gid, owner=(uid, gid))
    if unshare := shutil.which("unshare"):
        prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={gid}")
        if _runs(*prefix, str(program), "--version"):
            return Identity("in a separate user namespace", prefix)
    if setpriv := shutil.which("setpriv"):
        for capability in CAPABILITIES:
            as_user = (setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
            capable = (*as_user, f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}")
            if _runs(*capable, str(program), "--version"):
                return Identity(f"as user id {uid} with the capability {capability}", capable, owner=(uid, gid))
    raise ProgramMissing(
        "PostgreSQL refuses to run as root, and the lab can't run it as another user on this machine: "
        f"an unprivileged user can't reach {program} or {data}, and neither user namespaces nor capabilities are "
        "allowed.",
        next_step="run the lab as an unprivileged user, or set XDG_STATE_HOME to a folder that every user can enter, "
        "such as one in /var/lib",
    )


def _runs(*command: str) -> bool:
    return run(command, timeout=20).returncode == 0


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
