"""A cluster for a fixture: it starts where one can be run, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster import programs
from tests.cluster.cluster import Cluster, cluster, unavailable_reason
from tests.containers.engine import EngineUnavailable
from tests.suite.chance import LONG


@contextmanager
def temporary_cluster(archives: Callable[[Path], Sequence[Path]]) -> Iterator[Cluster]:
    """Run a cluster of two nodes for a block; skip the test where no cluster can be run.

    Parameters
    ----------
    archives : callable
        Returns the archives of the images that the nodes load, from the folder of the programs.
    """
    if reason := unavailable_reason():
        pytest.skip(f"NOT RUN: {reason}")
    if not programs.are_built() and not LONG:
        pytest.skip("NOT RUN: a cluster's programs are not built; `python -m tests.cluster.programs` builds them")
    home = Path(tempfile.mkdtemp(prefix="saga-lab-cluster-"))
    try:
        folder = programs.get()
        with cluster(home, folder, archives(folder)) as running:
            yield running
            first = running.pid
        assert not Path(f"/proc/{first}").exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/saga-lab-{os.getpid()}"))
    except (programs.Unavailable, EngineUnavailable) as reason:
        pytest.skip(f"NOT RUN: {reason}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
