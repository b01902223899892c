"""Failures on a real cluster under load: no order is lost, nothing happens twice, and the system heals by itself."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labstack.waiting import poll_until
from tests.cluster import attached, installation
from tests.cluster.cluster import Cluster
from tests.cluster.installation import KUBECTL_INTERVAL, await_pods, namespaced, primary
from tests.cluster.ordering import Outcome, gateway_url, place_orders, placing_orders

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600), pytest.mark.xdist_group("cluster")]

ORDERS, RATE = 80, 2.0
"""The load during each failure: orders, and orders per second."""

Row = tuple[str, Outcome, float]


@pytest.fixture(scope="module")
def cluster(lab_cluster: Cluster) -> Iterator[Cluster]:
    """Yield the cluster with a lab attached to it; print the table of failures at the end."""
    await_copied_slots(lab_cluster)
    attached.lab(lab_cluster, "up")
    rows: list[Row] = []
    _rows[lab_cluster.pid] = rows
    yield lab_cluster
    attached.lab(lab_cluster, "down")
    print("\n| failure | orders | completed | cancelled | lost | repeated | longest gap (s) | healthy after (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for what, outcome, seconds in rows:
        ends = list(outcome.orders.values())
        completed, cancelled = ends.count("COMPLETED"), ends.count("CANCELLED")
        lost = len(ends) + outcome.unanswered - completed - cancelled
        print(
            f"| {what} | {len(ends) + outcome.unanswered} | {completed} | {cancelled} | {lost} | {outcome.repeated} |"
            f" {outcome.longest_gap_s:.1f} | {seconds:.1f} |"
        )


_rows: dict[int, list[Row]] = {}


DATABASES = ("order-db", "inventory-db", "payment-db", "shipping-db")
COPIED = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'outbox' AND synced AND NOT temporary"


def await_copied_slots(cluster: Cluster) -> None:
    """Wait until each standby has a copy of the relay's slot. A failover before that would lose the slot.

    The watcher drops a former primary's own slot.
    """

    def copied() -> bool:
        for database in DATABASES:
            selector = f"cnpg.io/cluster={database},cnpg.io/instanceRole=replica"
            names = "jsonpath={.items[*].metadata.name}"
            standbys = namespaced(
                cluster, "get", "pods", "--selector", selector, "--output", names, check=False
            ).split()
            if not standbys:
                return False
            for pod in standbys:
                query = ("exec", pod, "--container", "postgres", "--", "psql", "-At", "-d", database[:-3], "-c")
                if namespaced(cluster, *query, COPIED, check=False).strip() != "1":
                    return False
        return True

    assert poll_until(copied, 180, interval=KUBECTL_INTERVAL), installation.description(cluster)


def fail_under_load(cluster: Cluster, what: str, failure: Callable[[], None], healthy: Callable[[], bool]) -> Outcome:
    """Cause a failure under load, and wait until the system is healthy. Check that no order is lost or doubled."""
    await_copied_slots(cluster)
    with placing_orders(cluster, ORDERS, RATE) as outcome:
        time.sleep(5)  # so that orders are in flight
        begin = time.monotonic()
        failure()
        assert poll_until(healthy, 300, interval=KUBECTL_INTERVAL), installation.description(cluster)
        seconds = time.monotonic() - begin
    _rows[cluster.pid].append((what, outcome, seconds))
    assert outcome.unanswered == 0
    assert set(outcome.orders.values()) <= {"COMPLETED", "CANCELLED"}, outcome
    attached.lab(cluster, "check", "--wait", "120")
    return outcome


def test_database_fails_over(cluster: Cluster) -> None:
    """If a database's primary is killed, its standby takes over with the relay's slot: nothing is lost or doubled."""
    before = primary(cluster, "order-db")

    def kill() -> None:
        namespaced(cluster, "delete", "pod", before, "--grace-period=0", "--force")

    def healthy() -> bool:
        return primary(cluster, "order-db") not in ("", before) and await_pods(
            cluster, "cnpg.io/cluster=order-db", 2, timeout=1
        )

    outcome = fail_under_load(cluster, "primary of order-db killed", kill, healthy)
    assert "COMPLETED" in outcome.orders.values()
    query = "SELECT failover, slot_type FROM pg_replication_slots WHERE slot_name = 'outbox'"
    psql = ("exec", primary(cluster, "order-db"), "--container", "postgres", "--", "psql", "-At", "-d", "order", "-c")
    assert namespaced(cluster, *psql, query).strip() == "t|logical"


def test_broker_is_killed(cluster: Cluster) -> None:
    """If the broker's pod is killed, events wait in the outboxes, and all orders end after its return."""

    def kill() -> None:
        namespaced(cluster, "delete", "pod", "kafka-0", "--grace-period=0", "--force")

    fail_under_load(
        cluster, "broker killed", kill, lambda: await_pods(cluster, "app.kubernetes.io/name=kafka", 1, timeout=1)
    )


def test_node_is_drained(cluster: Cluster) -> None:
    """If a node is drained, its pods move to the other, one after another as the disruption budgets ask."""
    node = cluster.nodes[0]

    def drain() -> None:
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout", "280s")
        cluster.kubectl("drain", node, *options)

    def healthy() -> bool:
        installation.await_ready(cluster)
        return True

    try:
        fail_under_load(cluster, "node drained", drain, healthy)
        pods = cluster.get("--namespace", installation.NAMESPACE, "pods", "--field-selector", f"spec.nodeName={node}")
        assert [pod for pod in pods["items"] if pod["status"]["phase"] == "Running"] == []
    finally:
        cluster.kubectl("uncordon", node)


def test_service_scales_to_three_consumers(cluster: Cluster) -> None:
    """Three pods of a service share its group's partitions, and orders complete."""
    namespaced(cluster, "scale", "deployment", "shipping", "--replicas", "3")
    try:
        assert await_pods(cluster, "app=shipping", 3)
        outcome = place_orders(cluster, 20, 4.0)
        assert set(outcome.orders.values()) == {"COMPLETED"}
        program = (
            "from confluent_kafka.admin import AdminClient\n"
            "from labstack import Lab\n"
            "client = AdminClient({'bootstrap.servers': Lab().endpoints.kafka})\n"
            "print(len(client.describe_consumer_groups(['shipping'])['shipping'].result(30).members))"
        )
        assert attached.run_python(cluster, program).strip() == "3"
    finally:
        namespaced(cluster, "scale", "deployment", "shipping", "--replicas", "1")


def test_new_version_is_rolled_out_by_weight(cluster: Cluster) -> None:
    """A VirtualService divides the requests between order v1 and v2 by weight."""
    namespaced(cluster, "scale", "deployment", "order-v2", "--replicas", "1")
    assert await_pods(cluster, "app=order,version=v2", 1)
    route = namespaced(cluster, "get", "virtualservice", "order", "--output", "jsonpath={.spec.http}")
    try:
        destinations = [
            {"destination": {"host": "order", "subset": version}, "weight": weight}
            for version, weight in (("v1", 70), ("v2", 30))
        ]
        shared = [{**json.loads(route)[0], "route": destinations}]
        _patch_route(cluster, shared)
        assert poll_until(lambda: "v2" in _versions(cluster, 10), 30)
        counts = _versions(cluster, 200)
        assert 0.15 < counts.count("v2") / len(counts) < 0.45
    finally:
        _patch_route(cluster, json.loads(route))
        namespaced(cluster, "scale", "deployment", "order-v2", "--replicas", "0")


def _patch_route(cluster: Cluster, http: list[dict[str, Any]]) -> None:
    patch = json.dumps({"spec": {"http": http}})
    namespaced(cluster, "patch", "virtualservice", "order", "--type", "merge", "--patch", patch)


def _versions(cluster: Cluster, requests: int) -> list[str]:
    """Return the version of the order service that responded to each of some requests."""
    program = (
        "import httpx, sys\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    print(httpx.get(sys.argv[1] + '/orders/none').headers.get('x-service-version', ''))"
    )
    return cluster.run(sys.executable, "-c", program, gateway_url(cluster), str(requests)).split()
