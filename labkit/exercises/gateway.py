"""What the exercises about the gateway share: YAML as a learner types it, a second version, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from labkit.exercises.base import Bench

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

ASK = "/orders?limit=1"
RULES = "VirtualService/order"


def applied(*documents: str, force: bool = False) -> str:
    """Write the code with which a learner applies YAML."""
    text = "\n---\n".join(documents)
    return f'lab.mesh.apply("""\n{text}\n"""{", force=True" if force else ""})'


def begin_with_v2(bench: Bench) -> dict[str, Any]:
    """Take the mesh back and start the second version; return what the check and the cleanup need."""
    was_running = "order-v2" in bench.lab.endpoints.versions
    bench.lab.mesh.reset()
    bench.lab.start("order-v2")
    return {"v2_was_running": was_running, **as_it_is(bench)}


def as_it_is(bench: Bench) -> dict[str, Any]:
    """Return how the mesh is now, for `is_untouched`."""
    return {"before": bench.lab.mesh.show()}


def is_untouched(bench: Bench) -> bool:
    """Whether the mesh is as the setup left it."""
    return bool(bench.lab.mesh.show() == bench.given.before)


def put_back(bench: Bench) -> str:
    """Take the mesh back, and end the second version if the setup has started it."""
    bench.lab.mesh.reset()
    if not getattr(bench.given, "v2_was_running", True):
        bench.lab.stop("order-v2")
    return "The gateway has its own rules again."


@contextmanager
def frozen_order(bench: Bench) -> Iterator[None]:
    """Freeze the order service for the length of the block."""
    bench.lab.pause("order")
    try:
        yield
    finally:
        bench.lab.resume("order")


@contextmanager
def tried(bench: Bench, text: str) -> Iterator[None]:
    """Put YAML into force for the length of the block, and then what was in force before."""
    before = bench.lab.mesh.show()
    bench.lab.mesh.apply(text, force=True)
    try:
        yield
    finally:
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(before, force=True)


@contextmanager
def locked_orders(bench: Bench) -> Iterator[None]:
    """Keep everybody from writing orders for the length of the block, as the building of an index does."""
    with bench.look.connect("order") as db:
        db.execute("LOCK TABLE orders IN SHARE MODE")
        yield


def waiting_inserts(bench: Bench) -> int:
    """Return how many transactions wait in order's database to write a new row."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"
    return len(bench.look.sql("order", query))


def orders_since(bench: Bench, newest: str, customer: str) -> int:
    """Return how many orders a customer has placed since an order."""
    return sum(order.order_id > newest for order in bench.shop.orders(customer_id=customer))


def newest_order(bench: Bench) -> str:
    """Return the id of the newest order; empty where there is none."""
    return next((order.order_id for order in bench.shop.orders(limit="1")), "")
