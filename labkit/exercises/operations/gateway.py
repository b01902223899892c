"""Shared code of the gateway exercises: YAML as a learner types it, a second version, and the cleanup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labkit.exercises.base import Bench, Exercise

HEAD = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: order}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  http:"""
"""The first lines of every VirtualService here; its rules follow."""

RULE_HEAD = """apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order}
spec:
  host: order"""
"""The first lines of every DestinationRule here."""

V1 = """
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]"""
"""The rule that sends all orders to v1."""

PATH = "/orders?limit=1"
RULES = "VirtualService/order"


def applied(*documents: str, force: bool = False) -> str:
    """Return the code with which a learner applies YAML."""
    text = "\n---\n".join(documents)
    return f'lab.mesh.apply("""\n{text}\n"""{", force=True" if force else ""})'


def start_v2(bench: Bench) -> dict[str, Any]:
    """Reset the mesh and start the second version; return the facts for the check and the cleanup."""
    was_running = "order-v2" in bench.lab.endpoints.versions
    bench.lab.mesh.reset()
    bench.lab.start("order-v2")
    return {"v2_was_running": was_running, **current_rules(bench)}


def current_rules(bench: Bench) -> dict[str, Any]:
    """Return the mesh's current configuration, for `is_untouched`."""
    return {"before": bench.lab.mesh.show()}


def is_untouched(bench: Bench) -> bool:
    """Return whether the mesh is as the setup left it."""
    return bool(bench.lab.mesh.show() == bench.given.before)


def restore_mesh(bench: Bench) -> str:
    """Reset the mesh, and stop the second version if the setup started it."""
    bench.lab.mesh.reset()
    if not getattr(bench.given, "v2_was_running", True):
        bench.lab.stop("order-v2")
    return "The gateway has its default rules again."


class GatewayExercise(Exercise):
    """An exercise whose answer is the mesh's configuration; the cleanup resets it."""

    asks_value = False
    hidden = ("before", "v2_was_running")

    def submission(self, bench: Bench, answer: Any) -> str:
        return "---\n".join(bench.lab.mesh.show(name) for name in (RULES, "DestinationRule/order"))

    def cleanup(self, bench: Bench) -> str:
        return restore_mesh(bench)


@contextmanager
def frozen_order(bench: Bench) -> Iterator[None]:
    """Freeze the order service for the duration of the block."""
    bench.lab.faults.pause("order")
    try:
        yield
    finally:
        bench.lab.faults.resume("order")


@contextmanager
def locked_orders(bench: Bench) -> Iterator[None]:
    """Lock the table of orders against writes for the duration of the block, as building an index does."""
    with bench.look.db.connect("order") as db:
        db.execute("LOCK TABLE orders IN SHARE MODE")
        yield


def waiting_inserts(bench: Bench) -> int:
    """Return the number of transactions in order's database that wait to insert a row."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"
    return len(bench.look.db.rows("order", query))


def orders_since(bench: Bench, newest: str, customer: str) -> int:
    """Return the number of a customer's orders that are newer than a given order."""
    return sum(order.order_id > newest for order in bench.shop.orders(customer_id=customer))


def newest_order(bench: Bench) -> str:
    """Return the id of the newest order; empty if there is none."""
    return next((order.order_id for order in bench.shop.orders(limit="1")), "")
