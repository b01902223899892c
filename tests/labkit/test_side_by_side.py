"""An order in four services side by side, the consumers of its events, and waiting for rest, on a real lab."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Session, wait_until
from labkit.errors import ShopUnavailable, WaitTimedOut
from tests.stack.one_order import extend_deadlines


@pytest.fixture
def without_payment(session: Session) -> Iterator[Session]:
    """A lab whose payment service is down."""
    session.lab.stop("payment")
    yield session
    session.lab.start("payment")


def test_an_order_is_shown_side_by_side(session: Session) -> None:
    """Each service has a row with status, reason, effects and events, even one that received no command."""
    order = session.shop.place_order("penniless-pia", "lisbon", {"earl-grey": 1, "sencha": 1})
    session.shop.follow(order)
    session.look.wait_for_rest(order)
    rows = {service: tuple(line) for service, *line in session.look.by_service(order).to_numpy()}
    assert rows == {
        "order": ("CANCELLED", "insufficient_funds", "-", "OrderCreated, OrderCancelled"),
        "inventory": ("RELEASED", "-", "reserve, release", "InventoryReserved, InventoryReleased"),
        "payment": ("FAILED", "insufficient_funds", "-", "PaymentFailed"),
        "shipping": ("TOMBSTONE", "-", "-", "-"),
    }


def test_records_and_inbox_rows_are_counted(session: Session) -> None:
    """A resent event has two records, and still one row in each inbox that it concerns."""
    order = session.shop.follow(session.shop.place_order("ada", "rome", {"rooibos": 1}))
    session.look.wait_for_rest(order)
    session.lab.resend(order.order_id)
    session.look.kafka.take(10, order)
    counts = session.look.deliveries(order).set_index("type")
    assert list(counts.records) == [2] * 5
    assert list(counts.loc["InventoryReserved"]) == [2, 1, "-", 1, "-"]
    assert list(counts.loc["OrderCompleted"]) == [2, "-", 1, "-", 1]


def test_rest_is_reached_when_every_service_has_handled_every_event(without_payment: Session) -> None:
    """While a service is down, rest is reached only without it; then the other services have handled everything."""
    lab, shop, look, _ = without_payment
    order = shop.place_order("ada", "rome", {"rooibos": 1})
    look.wait_for_rest(order, without="payment")
    assert list(look.by_service(order).status) == ["RESERVED", "RESERVED", "-", "-"]
    with pytest.raises(WaitTimedOut, match="every service to handle all events"):
        look.wait_for_rest(order, timeout=0.5)
    extend_deadlines(lab)
    lab.start("payment")
    look.wait_for_rest(shop.follow(order))
    assert list(look.by_service(order).status) == ["COMPLETED", "SHIPPED", "COMPLETED", "DISPATCHED"]


def test_a_metric_is_summed_over_its_labels(session: Session) -> None:
    """A service's counter is found by name and labels, and is zero if nothing was counted."""

    def handled(**labels: str) -> int:
        return session.look.metrics.value("payment", "events_total", outcome="handled", **labels)

    before, of_a_type = handled(), handled(type="InventoryReserved")
    session.shop.follow(session.shop.place_order("ada", "rome", {"rooibos": 1}))
    wait_until(lambda: handled(type="InventoryReserved") == of_a_type + 1)
    assert handled() == before + 1
    assert handled(type="NoSuchType") == 0


def test_a_service_that_is_down_shows_no_metrics(without_payment: Session) -> None:
    """The error names the service and the next step."""
    with pytest.raises(ShopUnavailable, match=r"payment does not answer at /metrics(.|\n)*lab\.start\('payment'\)"):
        without_payment.look.metrics.value("payment", "events_total")
