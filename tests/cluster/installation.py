"""The chart on a test cluster, as Helm installs it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import yaml

from labstack.waiting import poll_until
from tests.cluster.cluster import Cluster, ClusterFailed
from tests.cluster.operators import DOCUMENTS, image_values
from tools.make_chart import CHART

NAMESPACE = "saga-lab"
RELEASE = "saga-lab"
TIMEOUT = 600.0
"""Seconds until everything must be ready."""
KUBECTL_INTERVAL = 2.0
"""Seconds between two calls of kubectl in a loop: each takes a third of a second of processor time."""


def install(cluster: Cluster) -> None:
    """Install the chart with stand-ins as images, and wait until everything is ready.

    Raises
    ------
    ClusterFailed
        Helm refused the chart, or a part did not become ready; the message names the part.
    """
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    upgrade(cluster)
    await_ready(cluster)


def upgrade(cluster: Cluster, *more: str) -> str:
    """Run ``helm upgrade --install`` with the values of the tests, and return its output."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as images:
        yaml.safe_dump(image_values(), images)
        images.flush()
        files = [
            CHART / "values-small.yaml",
            CHART / "values-plain.yaml",
            DOCUMENTS / "values.yaml",
            images.name,
        ]
        values = [word for file in files for word in ("--values", str(file))]
        command = ["helm", "upgrade", "--install", RELEASE, str(CHART), "--namespace", NAMESPACE]
        return cluster.run(*command, *values, *more)


def await_ready(cluster: Cluster) -> None:
    """Wait until every database cluster, job, deployment and broker is ready."""
    waits: Sequence[Sequence[str]] = (
        ("wait", "clusters.postgresql.cnpg.io", "--all", "--for", "condition=Ready"),
        ("rollout", "status", "statefulset"),
        ("wait", "job", "--all", "--for", "condition=Complete"),
        ("rollout", "status", "deployment"),
    )
    for words in waits:
        try:
            namespaced(cluster, *words, "--timeout", f"{TIMEOUT:.0f}s")
        except ClusterFailed as error:
            raise ClusterFailed(f"{error}\n{description(cluster)}") from error


def namespaced(cluster: Cluster, *arguments: str, check: bool = True) -> str:
    """Run kubectl in the lab's namespace."""
    return cluster.kubectl("--namespace", NAMESPACE, *arguments, check=check, timeout=TIMEOUT + 60)


def description(cluster: Cluster) -> str:
    """Return the pods, the last events, and the logs of the pods that are not ready."""
    pods = cluster.get("--namespace", NAMESPACE, "pods")["items"]
    parts = [
        namespaced(cluster, "get", "pods", "--output", "wide", check=False),
        namespaced(cluster, "get", "events", "--sort-by", ".lastTimestamp", check=False)[-4000:],
    ]
    for pod in pods:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        if not ready and pod["status"].get("phase") != "Succeeded":
            name = pod["metadata"]["name"]
            parts.append(namespaced(cluster, "logs", name, "--all-containers", "--tail", "20", check=False))
    return "\n".join(parts)


def primary(cluster: Cluster, database: str) -> str:
    """Return the pod of a database's primary."""
    selector = f"cnpg.io/cluster={database},cnpg.io/instanceRole=primary"
    names = "jsonpath={.items[*].metadata.name}"
    return namespaced(cluster, "get", "pods", "--selector", selector, "--output", names).strip()


def await_pods(cluster: Cluster, selector: str, number: int, timeout: float = 180) -> bool:
    """Wait until a number of pods with these labels are ready; return whether they are."""
    ready = "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}"
    words = ("get", "pods", "--selector", selector, "--output", ready)

    def are_ready() -> bool:
        return namespaced(cluster, *words, check=False).split().count("True") == number

    return bool(poll_until(are_ready, timeout, interval=KUBECTL_INTERVAL))
