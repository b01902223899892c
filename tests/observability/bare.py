"""A lab whose machine has nothing that observes it, with a cache of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from labstack.paths import LabPaths
from tests.stack.labs import Grounds


@contextmanager
def bare_lab(name: str, environment: Mapping[str, str] | None = None) -> Iterator[Grounds]:
    """Give the grounds of a lab that finds every program but those that `lab install` gets; it is not started yet."""
    cache = Path(tempfile.mkdtemp(prefix="saga-lab-test-cache-"))
    (cache / "saga-lab" / "programs").mkdir(parents=True)
    for there in LabPaths.of_user().cache.iterdir():
        if there.is_dir() and there.name != "programs":
            os.symlink(there, cache / "saga-lab" / there.name)
    grounds = Grounds(name, cache=cache, environment=environment)
    try:
        yield grounds
    finally:
        grounds.close()
        shutil.rmtree(cache)


def give(grounds: Grounds, name: str) -> None:
    """Put a program of this machine's cache into the lab's own, as an install does."""
    os.symlink(LabPaths.of_user().cache / "programs" / name, grounds.paths.cache / "programs" / name)
