"""Fixtures of the tests on a real cluster: one cluster for all tests of a run, with the operators and the chart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images, installation, operators, programs
from tests.cluster.cluster import Cluster, running_in
from tests.cluster.temporary import temporary_cluster


@pytest.fixture(scope="session")
def bare_cluster() -> Iterator[Cluster]:
    """Yield a cluster of two nodes with the operators."""
    with temporary_cluster(images.archives) as running:
        operators.prepare(running)
        yield running


@pytest.fixture(scope="session")
def lab_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Return a cluster with the chart: the one that `python -m tests.cluster` runs, or a new one."""
    if home := os.environ.get("SAGA_LAB_TEST_CLUSTER"):
        return running_in(Path(home), programs.folder())
    found: Cluster = request.getfixturevalue("bare_cluster")
    installation.install(found)
    return found
