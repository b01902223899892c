"""A lab on a machine without observers, with a separate cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labstack.config.paths import LabPaths
from tests.stack.labs import LabHarness


@contextmanager
def bare_lab(name: str, environment: Mapping[str, str] | None = None) -> Iterator[LabHarness]:
    """Yield the harness of a lab that is not started yet and has every program except those from `lab install`."""
    cache = Path(tempfile.mkdtemp(prefix="saga-lab-test-cache-"))
    (cache / "saga-lab" / "programs").mkdir(parents=True)
    for there in LabPaths.of_user().cache.iterdir():
        if there.is_dir() and there.name != "programs":
            os.symlink(there, cache / "saga-lab" / there.name)
    harness = LabHarness(name, cache=cache, environment=environment)
    try:
        yield harness
    finally:
        harness.close()
        shutil.rmtree(cache)


def install_program(harness: LabHarness, name: str) -> None:
    """Link a program from this machine's cache into the lab's own, as if it were installed."""
    os.symlink(LabPaths.of_user().cache / "programs" / name, harness.paths.cache / "programs" / name)
