"""Fixtures of the tests on a real cluster: one cluster for all tests of a run, with the operators and the chart."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images, installation, operators, programs
from tests.cluster.cluster import Cluster, cluster, running_in, unavailable_reason
from tests.containers.engine import EngineUnavailable
from tests.suite.chance import LONG


@pytest.fixture(scope="session")
def bare_cluster() -> Iterator[Cluster]:
    """Yield a cluster of two nodes with the operators. Skip the test where no cluster can be run."""
    if reason := unavailable_reason():
        pytest.skip(f"NOT RUN: {reason}")
    if not programs.are_built() and not LONG:
        pytest.skip("NOT RUN: a cluster's programs are not built; `python -m tests.cluster.programs` builds them")
    home = Path(tempfile.mkdtemp(prefix="saga-lab-cluster-"))
    try:
        folder = programs.get()
        with cluster(home, folder, images.archives(folder)) as running:
            operators.prepare(running)
            yield running
            first = running.pid
        assert not Path(f"/proc/{first}").exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/saga-lab-{os.getpid()}"))
    except (programs.Unavailable, EngineUnavailable) as reason:
        pytest.skip(f"NOT RUN: {reason}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def lab_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return a cluster with the chart: the one that `python -m tests.cluster` runs, or a new one."""
    if home := os.environ.get("SAGA_LAB_TEST_CLUSTER"):
        return running_in(Path(home), programs.folder())
    found: Cluster = request.getfixturevalue("bare_cluster")
    installation.install(found)
    return found
