"""Use a program that is already on PATH, if its version is accepted."""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import shutil
import subprocess
from pathlib import Path

from labstack.config.environment import run
from labstack.config.paths import LabPaths, write_atomically
from labstack.errors import LabError, ProgramMissing, StorageError
from labstack.install.catalogue import Entry, OnPath
from labstack.install.store import Program

VERSION_TIMEOUT = 20.0
"""Timeout in seconds for a program to print its version."""


def on_path(wanted: Entry, paths: LabPaths) -> Program | None:
    """Return the program on PATH if its version is accepted, else `None`."""
    try:
        return find_on_path(wanted, paths)
    except LabError:
        return None


def find_on_path(wanted: Entry, paths: LabPaths) -> Program:
    """Return the program on PATH.

    Raises
    ------
    ProgramMissing
        If it is not on PATH or has another version. The message names the version.
    """
    rule = wanted.on_path
    if rule is None:
        raise ProgramMissing("the lab does not search PATH, because it can't verify the version of a program there")
    found = shutil.which(rule.command)
    if found is None:
        raise ProgramMissing(f"PATH has no {rule.command}")
    path = Path(found).resolve()
    if not rule.ask:
        return Program(wanted.name, "unknown", path, "path", found)
    version = _cached_version(wanted, path, paths)
    if not _is_accepted(rule, version):
        needed = f"{rule.minimum} or newer" if rule.minimum else rule.accepts
        raise ProgramMissing(f"{found} is {version or 'of an unknown version'}; {needed} is needed")
    return Program(wanted.name, version, path, "path", found)


def _is_accepted(rule: OnPath, version: str) -> bool:
    if rule.minimum:
        return is_at_least(version, rule.minimum)
    return re.match(rf"{re.escape(rule.accepts)}(?![0-9])", version) is not None


def is_at_least(version: str, minimum: str) -> bool:
    """Report whether a version is at least `minimum`. Suffixes after the numbers are ignored.

    The epoch of a Debian package (``1:``) is not part of the version.
    """
    numbers = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return numbers is not None and _numbers(numbers[1]) >= _numbers(minimum)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _cached_version(wanted: Entry, path: Path, paths: LabPaths) -> str:
    """Return the program's version from the cache, or query the program if its file has changed."""
    cache_file = paths.cache / "programs" / wanted.name / "on-path.json"
    status = path.stat()
    file_key = [str(path), status.st_size, status.st_mtime_ns, wanted.version]
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        cached = json.loads(cache_file.read_text(encoding="utf-8"))
        if cached["asked"] == file_key:
            return str(cached["version"])
    version = _query_version(wanted, path)
    with contextlib.suppress(OSError, StorageError):  # without the file, the next call queries again
        cache_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(cache_file, json.dumps({"asked": file_key, "version": version}))
    return version


def _query_version(wanted: Entry, path: Path) -> str:
    assert wanted.on_path is not None
    try:
        output = run([path, *wanted.on_path.ask], timeout=VERSION_TIMEOUT).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramMissing(f"{path} does not report its version: {error}") from error
    if match := re.search(r"(?<![\w.])v?(\d+\.\d+(\.\d+)?[\w.+-]*)", re.sub(r"go\d\S*", "", output)):
        return match.group(1)
    return wanted.version if _was_built_from(wanted, path) else ""


def _was_built_from(wanted: Entry, path: Path) -> bool:
    """Report whether Go recorded in the file that it was built from the wanted version of the module.

    A program built with ``go install`` often can't print its version. But Go embeds a line with ``mod``, module and
    version.
    """
    if wanted.by_go is None:
        return False
    build_line = f"mod\t{wanted.by_go.module}\t{wanted.by_go.version}\t".encode()
    if path.stat().st_size == 0:
        return False  # an empty file can't be mapped
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(build_line) >= 0
