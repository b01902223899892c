"""`python -m labstack.cli.obtain`: the background process that installs missing programs for a running lab."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from labstack.config.paths import LabPaths
from labstack.errors import LabError
from labstack.install import SOURCES, entry, install
from labstack.lab import Lab, access_of
from labstack.lifecycle import obtaining
from labstack.lifecycle.joining import join_observers
from labstack.lifecycle.obtaining import Stage
from labstack.progress import Progress


def main(state: str, cache: str, *names: str) -> None:
    """Install programs one after the other, and let each observer join the lab."""
    paths = LabPaths(Path(state), Path(cache))
    access = access_of(Lab(paths=paths))

    def note_step(name: str, stage: Stage, text: str = "") -> None:
        obtaining.note(paths, {name: obtaining.Download(stage, text, time.time())})

    for name in names:

        def listen(progress: Progress, name: str = name) -> None:
            if progress.stages:
                note_step(name, "fetching", f"{progress.stages[-1].name} {progress.stages[-1].note}".strip())

        note_step(name, "fetching")
        try:
            # A build with Go occupies all cores for minutes, so it runs only on request.
            install(
                entry(name),
                paths,
                Progress(_throttled(listen)),
                sources=[source for source in SOURCES if source != "go"],
            )
            join_observers(access, Progress())
        except Exception as error:  # a failed download must not stop the others
            note_step(
                name, "failed", error.problem if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
            )
            traceback.print_exc()  # into the log
        else:
            note_step(name, "there")


def _throttled(listener: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Limit a listener to a few calls per second, because each call writes a file."""
    last = 0.0

    def listen(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > obtaining.NOTE_INTERVAL:
            last = time.monotonic()
            listener(progress)

    return listen


if __name__ == "__main__":
    main(*sys.argv[1:])
