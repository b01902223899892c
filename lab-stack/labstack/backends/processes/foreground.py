"""Start a component's process in this terminal, where a debugger can read what is typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labstack.backends.processes.process import Command, environment
from labstack.config.environment import raise_file_limit
from labstack.errors import ProgramMissing

TERMINAL = ("TERM", "COLORTERM", "PYTHONBREAKPOINT")
"""The environment variables that a process in the terminal gets in addition, for the sake of its debugger."""


def in_terminal(command: Command, argv: Sequence[str]) -> Command:
    """Return the command as it runs in this terminal.

    It runs in the current folder, with the command's settings, and with other arguments if any are given.

    The program is found in the folder of this Python first, and then on the user's PATH.

    Parameters
    ----------
    command : Command
        How the lab starts the program.
    argv : sequence of str
        Program and arguments to start instead; if empty, the lab's.

    Raises
    ------
    ProgramMissing
        The program does not exist.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
    wanted = list(argv or command.argv)
    program = shutil.which(wanted[0], path=path)
    if program is None:
        raise ProgramMissing(
            f"There is no program {wanted[0]!r} on PATH.", next_step="install it, or give its path instead of its name"
        )
    kept = {name: os.environ[name] for name in TERMINAL if name in os.environ}
    return replace(command, argv=[program, *wanted[1:]], cwd=Path.cwd(), env={**command.env, **kept, "PATH": path})


def spawn(command: Command, marker: str) -> subprocess.Popen[bytes]:
    """Start a program in this terminal's foreground; Ctrl-C reaches it, too."""
    raise_file_limit()
    return subprocess.Popen(command.argv, cwd=command.cwd, env=environment(command, marker))
