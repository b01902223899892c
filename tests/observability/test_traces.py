"""Each order has one trace; its edges are read from a real Jaeger, or from files in a lab without Jaeger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from labkit import Session, begin
from labkit.client.shop import Order
from labkit.sources.traces import NoTraces, Span
from labkit.waiting import wait_until
from labservices.telemetry.event_spans import relay_span_id
from tests.observability.bare import bare_lab
from tests.observability.traffic import assert_shop_completes_orders
from tests.stack.labs import LabHarness
from tests.suite.chance import short_sample


def event_edges(service: str, event: str, *readers: str) -> set[tuple[str, str]]:
    """Return the edges of an event's path: to the outbox, through the relay, to the services that handle it."""
    row, relay = f"{service}: {event} to outbox", f"debezium: {event} relayed"
    return {(row, relay), *((relay, f"{reader} handles {event}") for reader in readers)}


def append_edge(service: str, upon: str, event: str) -> tuple[str, str]:
    """Return the edge from a handler to the event that it appends to the outbox."""
    return f"{service} handles {upon}", f"{service}: {event} to outbox"


def spans_so_far(session: Session, order: Order) -> list[Span]:
    """Return the spans of an order that are stored now: none until the services export their first."""
    return [span for trace in session.look.traces.source.of_order(order.order_id) for span in trace.spans]


PLACED = {("order: POST /orders", "order: OrderCreated to outbox"), *event_edges("order", "OrderCreated", "inventory")}
RESERVED = {
    append_edge("inventory", "OrderCreated", "InventoryReserved"),
    *event_edges("inventory", "InventoryReserved", "order", "payment"),
}
COMPLETED = {
    *PLACED,
    *RESERVED,
    append_edge("payment", "InventoryReserved", "PaymentCompleted"),
    *event_edges("payment", "PaymentCompleted", "order", "shipping"),
    append_edge("shipping", "PaymentCompleted", "ShipmentScheduled"),
    *event_edges("shipping", "ShipmentScheduled", "order"),
    append_edge("order", "ShipmentScheduled", "OrderCompleted"),
    *event_edges("order", "OrderCompleted", "inventory", "shipping"),
}
COMPENSATED = {
    *PLACED,
    *RESERVED,
    append_edge("payment", "InventoryReserved", "PaymentFailed"),
    *event_edges("payment", "PaymentFailed", "inventory", "order", "shipping"),
    append_edge("inventory", "PaymentFailed", "InventoryReleased"),
    *event_edges("inventory", "InventoryReleased", "order"),
}


@pytest.fixture(scope="module", params=[pytest.param("jaeger", marks=pytest.mark.long), "files"])
def traced(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A lab with Jaeger, and one without."""
    if request.param == "jaeger":
        from labstack.config.paths import LabPaths
        from labstack.install import find_program

        if find_program("jaeger", LabPaths.of_user()) is None:
            pytest.skip("jaeger is not on this machine: `lab install jaeger`")
        with closing(LabHarness("traced")) as harness:
            harness.run_checked("up")
            yield begin("10", harness.lab)
    else:
        with bare_lab("untraced") as harness:
            harness.run_checked("up")
            yield begin("10", harness.lab)


def test_completed_order_has_one_trace(traced: Session) -> None:
    """A completed order has one trace with one root, with exactly these edges."""
    order = traced.shop.place_order("ada", "lisbon", {"earl-grey": 2})
    assert traced.shop.follow(order).status == "COMPLETED"
    traces = traced.look.traces.all_of(order)
    assert len(traces) == 1
    assert traces[0].edges() >= COMPLETED
    (root,) = traces[0].roots
    gateway = {(root.label, "order: POST /orders")} if traced.lab.endpoints.jaeger else set()
    assert traces[0].edges() == COMPLETED | gateway
    assert root.service == ("gateway" if gateway else "order")


@pytest.mark.needs("istiod", "jaeger")
@pytest.mark.long
def test_trace_starts_at_the_gateway_with_istiod() -> None:
    """With istiod, too, an order's trace starts at the gateway."""
    harness = LabHarness("steered", environment={"LAB_CONTROL_PLANE": "istiod"})
    try:
        harness.run_checked("up")
        session = begin("10", harness.lab)
        order = session.shop.place_order("ada", "lisbon", {"earl-grey": 2})
        assert session.shop.follow(order).status == "COMPLETED"
        (root,) = session.look.traces.of(order).roots
        assert (root.service, root.attributes["http.method"]) == ("gateway", "POST")
    finally:
        harness.close()


@pytest.mark.needs("jaeger")
@pytest.mark.long
def test_jaeger_is_available_below_a_hub_path() -> None:
    """On a hub, Jaeger is below the hub's path, and its traces can be read there."""
    harness = LabHarness("hub", environment={"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"})
    try:
        harness.run_checked("up")
        with pytest.MonkeyPatch.context() as there:
            there.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
            session = begin("10", harness.lab)
            assert "/user/ada/proxy/absolute/" in session.lab.endpoints.jaeger
            order = session.shop.place_order("ada", "lisbon", {"earl-grey": 2})
            assert session.shop.follow(order).status == "COMPLETED"
            assert session.look.traces.of(order).edges() >= COMPLETED
    finally:
        harness.close()


def test_compensated_order_has_one_trace(traced: Session) -> None:
    """An order that can't be paid has one trace, which includes the compensation."""
    order = traced.shop.place_order("nobody", "lisbon", {"earl-grey": 2})
    assert traced.shop.follow(order).status == "CANCELLED"
    (trace,) = traced.look.traces.all_of(order)
    back = event_edges("order", "OrderCancelled") | {("order handles PaymentFailed", "order: OrderCancelled to outbox")}
    assert trace.edges() >= COMPENSATED
    unexpected = trace.edges() - COMPENSATED - back
    assert all("OrderCancelled" in a + b or a.startswith("gateway") for a, b in unexpected), unexpected


def test_dead_lettered_order_has_failed_spans(traced: Session) -> None:
    """Each attempt to handle a poisoned event is a failed span below the relay's, and so is the dead-lettering."""
    lab, shop, _, _ = traced
    lab.faults.on("payment", "poison-next")
    order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    wait_until(lambda: [letter for letter in lab.dead_letters.all() if letter.order_id == order.order_id], 30)
    try:

        def spans(name: str) -> list[Span]:
            return [span for span in spans_so_far(traced, order) if span.name == name]

        wait_until(lambda: len(spans("payment handles InventoryReserved")) == 5, 15)
        attempts = spans("payment handles InventoryReserved")
        (relay,) = spans("InventoryReserved relayed")
        assert all(span.failed and "Poisoned" in span.error for span in attempts)
        assert {span.attributes["event.outcome"] for span in attempts} == {"failed"}
        wait_until(lambda: [span.parent_id for span in spans("payment gives up")] == [relay.span_id], 15)
        assert {span.parent_id for span in attempts} == {relay.span_id}
    finally:
        lab.faults.off("payment")
        for letter in lab.dead_letters.all():
            lab.dead_letters.replay(letter.id)
    assert shop.follow(order).status in ("COMPLETED", "CANCELLED")


def test_relay_span_lasts_from_the_row_to_the_record(traced: Session) -> None:
    """The relay's span occurs once, although several services record it, from the time of its row to its record's."""
    shop, look = traced.shop, traced.look
    order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    assert shop.follow(order).status == "COMPLETED"
    record = look.kafka.record(order, "InventoryReserved").record
    (trace,) = look.traces.all_of(order)
    (span,) = [span for span in trace.spans if span.name == "InventoryReserved relayed"]
    event_id = record.headers["ce_id"] or ""
    assert span.span_id == f"{relay_span_id(event_id):016x}"
    made = datetime.fromisoformat(record.headers["ce_time"] or "").timestamp()
    assert abs(span.start / 1e9 - made) < 1e-5
    assert abs(span.end / 1e6 - max(record.time, made * 1000)) < 1


def test_redelivered_event_is_marked_as_a_duplicate(traced: Session) -> None:
    """A redelivered event is a second span of each consumer, marked as a duplicate."""
    shop, look = traced.shop, traced.look
    order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    assert shop.follow(order).status == "COMPLETED"
    look.wait_for_rest(order)
    traced.lab.resend(order.order_id)

    def outcomes() -> list[str]:
        found = [span for span in spans_so_far(traced, order) if span.name == "inventory handles OrderCreated"]
        return sorted(span.attributes["event.outcome"] for span in found)

    wait_until(lambda: outcomes() == ["duplicate", "handled"], 15)


def test_missing_traceparent_splits_the_trace(traced: Session) -> None:
    """If a service does not propagate the traceparent, the spans after it form separate traces."""
    lab, shop, look, _ = traced
    lab.faults.on("payment", "strip-traceparent")
    try:
        order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
        assert shop.follow(order).status == "COMPLETED"
        traces = look.traces.all_of(order)
        assert len(traces) > 1
        assert ("payment handles InventoryReserved", "payment: PaymentCompleted to outbox") in traces[0].edges()
        assert {root.label for trace in traces[1:] for root in trace.roots} == {
            "order handles PaymentCompleted",
            "shipping handles PaymentCompleted",
        }
    finally:
        lab.faults.off("payment")


@pytest.mark.parametrize("verb", short_sample(["kill", "pause"], 1))
def test_orders_complete_without_jaeger(traced: Session, verb: str) -> None:
    """With Jaeger killed or paused, orders complete as usual; afterwards, traces are available again."""
    lab, shop, look, _ = traced
    if not lab.endpoints.jaeger:
        pytest.skip("there is no Jaeger in this lab")
    getattr(lab.faults, verb)("jaeger")
    assert_shop_completes_orders(shop)
    with pytest.raises(NoTraces, match="doesn't answer"):
        look.traces.source.trace("0" * 32)
    lab.up()
    order = shop.place_order("ada", "lisbon", {"earl-grey": 2})
    assert shop.follow(order).status == "COMPLETED"
    assert look.traces.of(order).edges() >= COMPLETED
