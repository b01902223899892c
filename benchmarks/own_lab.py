"""A lab for one benchmark: its data in a temporary folder, its programs from the user's cache, deleted at the end."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from labstack.backends.choice import Mode
from labstack.config.paths import LabPaths
from labstack.lab import Lab, access_of
from labstack.lifecycle.starting import prefetch
from labstack.progress import Progress
from labstack.state import remove_tree

NAME = "benchmark"
"""Name of a benchmark's lab."""


@contextmanager
def temporary_paths() -> Iterator[LabPaths]:
    """Yield folders for one benchmark; programs come from the cache that the user's labs share."""
    folder = Path(tempfile.mkdtemp(prefix="saga-lab-benchmark-"))
    try:
        # With XDG_STATE_HOME at the folder, `lab --name benchmark` finds the lab.
        paths = LabPaths(state=folder / "saga-lab" / NAME, cache=LabPaths.of_user().cache)
        paths.make()
        yield paths
    finally:
        remove_tree(folder)


@contextmanager
def own_lab(mode: Mode = "local") -> Iterator[Lab]:
    """Yield a lab that is not started, with every program downloaded; stop it after the block, even after an error.

    A lab on a cluster is only attached and detached, so nothing is downloaded.
    """
    with temporary_paths() as paths, exit_on_signals():
        lab = Lab(paths=paths, mode=mode)
        if mode != "kubernetes":
            prefetch(access_of(lab), Progress())
        try:
            yield lab
        finally:
            with signals_ignored():
                lab.down(purge=True)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does, so that the processes that it started are stopped, too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM during the block: a shutdown must not itself be interrupted."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
