"""A lab of the benchmark's own: its data in a temporary folder, its programs from the user's cache, gone at the end."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from labstack.lab import Lab
from labstack.mode import Mode
from labstack.paths import LabPaths
from labstack.state import remove_tree


@contextmanager
def temporary_paths() -> Iterator[LabPaths]:
    """Give folders for one benchmark; programs come from the cache of all the user's labs."""
    folder = Path(tempfile.mkdtemp(prefix="saga-lab-benchmark-"))
    try:
        paths = LabPaths(state=folder / "lab", cache=LabPaths.of_user().cache)
        paths.make()
        yield paths
    finally:
        remove_tree(folder)


@contextmanager
def own_lab(mode: Mode = "local") -> Iterator[Lab]:
    """Give a lab that is not running yet, with every program fetched; whatever becomes of the block, it is ended."""
    with temporary_paths() as paths, ended_by_signals():
        lab = Lab(paths=paths, mode=mode)
        lab.prefetch()
        try:
            yield lab
        finally:
            with undisturbed():
                lab.down(purge=True)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what it started is ended, too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block: of an ending, which must not itself be cut short."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
