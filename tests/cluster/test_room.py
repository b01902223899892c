"""How many nodes a class needs: the scheduler places forty learners' pods on nodes without a machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labstack.waiting import poll_until
from tests.cluster.cluster import Cluster
from tests.hub.chart import settings, values

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600), pytest.mark.xdist_group("cluster")]

NAMESPACE, TAINT = "room", "saga-lab/no-kubelet"
PEOPLE = 41
"""Forty learners and an instructor."""


def node(number: int) -> dict[str, Any]:
    """Return a node with 4 cores and 16 GiB, less what cloud providers keep for the system."""
    allocatable = {"cpu": "3920m", "memory": "13Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"room-{number}", "labels": {"room": "yes"}},
        "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "4", "memory": "16Gi", "pods": "110"},
            "allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def learner(number: int) -> dict[str, Any]:
    """Return a pod with the requests of the values for a learner's pod, which only those nodes accept."""
    spawner = settings(values())["KubeSpawner"]
    requests = {"cpu": str(spawner["cpu_guarantee"]), "memory": spawner["mem_guarantee"]}
    container = {"name": "notebook", "image": "none", "resources": {"requests": requests}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"learner-{number}", "namespace": NAMESPACE},
        "spec": {
            "nodeSelector": {"room": "yes"},
            "tolerations": [{"key": TAINT, "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready"}],
            "containers": [container],
        },
    }


@pytest.fixture
def room(lab_cluster: Cluster) -> Iterator[Cluster]:
    """Yield a cluster with forty-one pods that no node accepts yet."""
    lab_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        lab_cluster.apply(*(learner(number) for number in range(PEOPLE)))
        yield lab_cluster
    finally:
        lab_cluster.kubectl("--namespace", NAMESPACE, "delete", "pods", "--all", "--force", "--grace-period=0")
        lab_cluster.kubectl("delete", "nodes", "--selector", "room=yes")
        lab_cluster.kubectl("delete", "namespace", NAMESPACE)


def placed(cluster: Cluster) -> int:
    """Return how many pods have a node."""
    return sum("nodeName" in pod["spec"] for pod in cluster.get("--namespace", NAMESPACE, "pods")["items"])


def refused(cluster: Cluster) -> int:
    """Return the number of pods that the scheduler could not place."""
    pods = cluster.get("--namespace", NAMESPACE, "pods")["items"]
    conditions = [condition for pod in pods for condition in pod["status"].get("conditions", [])]
    return sum(condition.get("reason") == "Unschedulable" for condition in conditions)


def test_six_nodes_have_room_for_forty_learners(room: Cluster) -> None:
    """On five nodes with 4 cores and 16 GiB, six pods find no room; the sixth node has room for them."""
    room.apply(*(node(number) for number in range(5)))
    assert poll_until(lambda: placed(room) == 35, 60, interval=1), placed(room)
    assert poll_until(lambda: refused(room) == PEOPLE - 35, 30, interval=1), refused(room)
    room.apply(node(5))
    assert poll_until(lambda: placed(room) == PEOPLE, 60, interval=1), placed(room)
