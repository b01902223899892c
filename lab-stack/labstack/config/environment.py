"""The environment of every process that the lab starts.

Programs and their libraries read many environment variables that were not set for the lab: libpq reads ``PGHOST``, Java
``JAVA_TOOL_OPTIONS``, OpenTelemetry ``OTEL_SDK_DISABLED``, Python ``PYTHONHOME``, the dynamic loader ``LD_PRELOAD``. A
process of the lab gets the variables of `INHERITED`, a fixed locale and time zone, and the variables that the lab sets
for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import resource
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from labstack.errors import LabError

INHERITED = frozenset(
    {
        *("HOME", "USER", "LOGNAME", "PATH", "TMPDIR"),
        # Where a Python or PostgreSQL from Nix, conda or a module system finds its libraries.
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "NIX_LD", "NIX_LD_LIBRARY_PATH"),
        # Where this Python found the lab, if it was installed with `pip install --user`.
        *("PYTHONUSERBASE", "PYTHONNOUSERSITE"),
        "SAGA_LAB_CHECK",  # tools/check.py finds the processes of a test run by this variable
    }
)
"""The environment variables of the caller that every process gets."""

DOWNLOADS = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
        *("GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOINSECURE", "GOAUTH"),
    }
)
"""The environment variables, in upper or lower case, that a process gets in addition if it downloads something."""

LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
"""A locale that every supported system has: English messages, and file names in UTF-8."""

FIXED = MappingProxyType({"LC_ALL": LOCALE, "TZ": "UTC"})
"""Every log has UTC times and English messages, whatever the user's locale."""

UMASK = 0o077
"""Files of the lab are readable by their owner only."""

OPEN_FILES = 4096
"""The number of open files that a process of the lab asks for; without a request, some systems allow only 256."""

FEWEST_FILES = 512
"""The number of open files with which the broker and Connect still work."""


def clean(own: Mapping[str, str] = MappingProxyType({}), *, downloads: bool = False) -> dict[str, str]:
    """Return the environment of a process.

    Parameters
    ----------
    own : mapping
        The variables that the lab sets for this process.
    downloads : bool
        Whether the process downloads something, and therefore needs the user's proxy and certificates.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or (downloads and name.upper() in DOWNLOADS)
    }
    return {**inherited, **FIXED, "PYTHONPATH": python_path(), **own}


def python_path() -> str:
    """Return those folders of the lab and its libraries that a new Python process would not search by itself."""
    searched = {Path(folder) for folder in (*site.getsitepackages(), site.getusersitepackages())}
    folders = [Path(__file__).parents[2]]
    for package in ("labservices", "uvicorn"):  # the services, and one of their libraries
        if (found := importlib.util.find_spec(package)) and found.origin:
            folders.append(Path(found.origin).parents[1])
    return os.pathsep.join(str(folder) for folder in dict.fromkeys(folders) if folder not in searched)


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    cwd: Path = Path("/"),
    downloads: bool = False,
    own: Mapping[str, str] = MappingProxyType({}),
    text: str | None = None,
    user: int | None = None,
    group: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end in a clean environment, and return its output as text.

    Parameters
    ----------
    argv : sequence of str or Path
        Program and arguments.
    timeout : float
        Seconds.
    cwd : Path
        Working directory.
    downloads, own
        See `clean`.
    text : str, optional
        Standard input; default: none.
    user, group : int, optional
        Ids of the user and group to run as (only root can).

    Raises
    ------
    OSError
        The program can't be started.
    subprocess.TimeoutExpired
        The program runs longer than `timeout`.
    """
    return subprocess.run(
        argv,
        input=text or "",  # without input, the program reads the end of the file at once
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        cwd=cwd,
        env=clean(own, downloads=downloads),
        umask=UMASK,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
    )


def raise_file_limit() -> None:
    """Allow this process and those that it starts to open `OPEN_FILES` files, as far as the system permits.

    Raises
    ------
    LabError
        The system permits fewer than `FEWEST_FILES`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FEWEST_FILES:
        raise LabError(
            f"This shell allows a program {wanted} open files (`ulimit -n`); the lab needs {FEWEST_FILES}.",
            next_step="run the command in another shell, or raise the limit (Linux: /etc/security/limits.conf)",
        )
