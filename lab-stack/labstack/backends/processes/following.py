"""Follow a log while it grows, as ``tail -F`` does."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from labstack.waiting import poll_until

POLL_INTERVAL = 0.2
"""Seconds between two checks of a log."""


def follow(path: Path) -> Iterator[str]:
    """Yield each line that is appended to a log from now on, indefinitely.

    A restarted component opens a new file; its lines follow those of the old file.
    """
    log = path.open(encoding="utf-8", errors="replace") if path.exists() else None
    if log:
        log.seek(0, os.SEEK_END)
    return _lines(path, log)


def _lines(path: Path, log: TextIO | None) -> Iterator[str]:
    line = ""
    try:
        while True:
            poll_until(lambda: _has_more(path, log), math.inf, interval=POLL_INTERVAL)  # noqa: B023 - called here only
            while log and (text := log.readline()):
                line += text
                if line.endswith("\n"):
                    yield line.rstrip("\n")
                    line = ""
            if log is None or _was_replaced(path, log):
                if log:
                    log.close()
                log, line = path.open(encoding="utf-8", errors="replace"), ""
    finally:
        if log:
            log.close()


def _has_more(path: Path, log: TextIO | None) -> bool:
    if log is None:
        return path.exists()
    return _was_replaced(path, log) or os.fstat(log.fileno()).st_size > log.tell()


def _was_replaced(path: Path, log: TextIO) -> bool:
    return path.exists() and path.stat().st_ino != os.fstat(log.fileno()).st_ino
