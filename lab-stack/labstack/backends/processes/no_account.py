"""PostgreSQL's initdb for a user id without an account, such as `docker run --user 123456` and OpenShift use.

`initdb`, and the `postgres` that it runs, ask the C library for the name of the current user (`getpwuid`), and exit if
there is none, although the lab passes the name of the database's owner. So this module makes copies of both programs,
which ask for the first account of the system instead (`getpwent`). PostgreSQL uses the answer for messages only. The
servers need no copies.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from labstack.errors import ProgramMissing

ASKING = ("initdb", "postgres")
"""The programs that ask for an account's name."""

BY_ID, FIRST = b"\0getpwuid\0", b"\0getpwent\0"
"""The imported function in a program's table of symbol names, and the one to import instead."""


def has_account() -> bool:
    """Report whether the current user has a name."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def programs_without_account(programs: Path, target: Path) -> Path:
    """Copy PostgreSQL's wheel, so that initdb works for a user id without an account.

    Parameters
    ----------
    programs : Path
        The folder of the wheel's programs.
    target : Path
        An empty folder.

    Returns
    -------
    Path
        The folder of the copied programs. The libraries and the shared files are links to those of the wheel.

    Raises
    ------
    ProgramMissing
        If the programs do not import the function, for example because it is part of them.
    """
    package = programs.parents[1]
    copies = target / package.name / programs.parent.name / programs.name
    copies.mkdir(parents=True)
    for folder in programs.parent.iterdir():
        if folder != programs:
            (copies.parent / folder.name).symlink_to(folder)
    for libraries in package.parent.glob(f"{package.name}.libs"):  # the programs find it relative to themselves
        (target / libraries.name).symlink_to(libraries)
    for name in ASKING:
        content = (programs / name).read_bytes()
        if content.count(BY_ID) != 1:
            raise ProgramMissing(
                f"{programs / name} needs an account, and the user id {os.geteuid()} has none in /etc/passwd.",
                next_step=f"add one: echo 'learner:x:{os.geteuid()}:0::/:/bin/sh' >> /etc/passwd (as root)",
            )
        (copies / name).write_bytes(content.replace(BY_ID, FIRST))
        shutil.copymode(programs / name, copies / name)
    return copies
