"""Trials of a loyalty service for the capstone's checks: duplicates, refunds, crashes, a database that rejects rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from labkit.capstone.extension import ExtensionService
from labkit.capstone.loyalty import NAME
from labkit.capstone.referee import INPUT_TOPIC, TIMEOUT, settle
from labkit.client.shop import Shop
from labkit.inspect.look import Look
from labkit.waiting import wait_until
from labstack import Lab
from labstack.arguments import checked

NOWHERE = "concordia-station"
"""A destination that no carrier serves: an order to it is paid, and then refunded."""

ERROR = re.compile(r"(\w+\.)+[A-Z]\w*: |\w*(Error|Exception): ")
"""The start of the last line of a stack trace."""

HEAL = "DROP FUNCTION IF EXISTS refuse() CASCADE; DROP SEQUENCE IF EXISTS refused"
REFUSE = """
    CREATE SEQUENCE refused;
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM nextval('refused');  -- a sequence is not rolled back
        RAISE EXCEPTION 'the check refuses every new row for a moment';
    END $$;
"""


@checked
def one_order(shop: Shop, destination: str = "lisbon") -> str:
    """Place an order, wait until it ends, and return its id."""
    return shop.follow(shop.place_order("grace", destination, {"earl-grey": 2})).order_id


@checked
def send_again(lab: Lab, look: Look, orders: Sequence[str]) -> None:
    """Send every event of some orders again, and wait until loyalty's input topic contains them."""

    def records() -> Counter[str | None]:
        return Counter(view.record.headers.get("ce_id") for view in look.kafka.records(list(orders), INPUT_TOPIC))

    before = records()
    for order in orders:
        lab.resend(order)
    wait_until(
        lambda: all(records()[one] > many for one, many in before.items()), TIMEOUT, what="the events to arrive again"
    )


@contextmanager
def refusing(look: Look, table: str) -> Iterator[Callable[[], bool]]:
    """Make a table of loyalty reject every new row for the duration of the block.

    Yield a function that returns whether the table has rejected a row.
    """
    with look.db.connect(NAME) as db:
        db.execute(HEAL)
        db.execute(REFUSE)
        db.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {table} EXECUTE FUNCTION refuse()".encode())
    try:
        yield lambda: bool(look.db.rows(NAME, "SELECT is_called FROM refused").is_called.item())
    finally:
        with look.db.connect(NAME) as db:
            db.execute(HEAL)


@checked
@contextmanager
def refused_once(shop: Shop, look: Look, table: str) -> Iterator[str]:
    """Place an order on which loyalty fails, because a table rejects its row; yield it while the table rejects rows."""
    with refusing(look, table) as has_refused:
        order = one_order(shop)
        wait_until(has_refused, TIMEOUT, what=f"{NAME} to write into {table} for a new order")
        yield order


@checked
def left_behind(look: Look, order: str) -> tuple[int, int]:
    """Return the number of loyalty's rows for an order in ``points`` and in its outbox."""
    booked = look.db.rows(NAME, "SELECT FROM points WHERE order_id = %(order)s", order=order)
    published = look.db.rows(NAME, "SELECT FROM outbox WHERE aggregateid = %(order)s", order=order)
    return len(booked), len(published)


@checked
def all_at_once(lab: Lab, shop: Shop, look: Look, loyalty: ExtensionService) -> list[str]:
    """Run all trials on a service, and return the orders by which it is checked."""
    orders = [one_order(shop), one_order(shop, NOWHERE), one_order(shop)]
    settle(lab, look, orders)
    for table in ("points", "outbox"):
        with refused_once(shop, look, table) as order:
            orders.append(order)
        settle(lab, look, orders)  # otherwise the next table would reject the retry of this order, not the next order
    loyalty.kill()
    orders += [one_order(shop, NOWHERE), one_order(shop)]
    send_again(lab, look, orders)
    loyalty.start()
    settle(lab, look, orders)
    return orders


@checked
def last_error(lab: Lab) -> str:
    """Return the last line of loyalty's log that names an exception."""
    lines = [line for line in lab.extensions.log(NAME, 200).splitlines() if ERROR.match(line)]
    return lines[-1] if lines else "its log contains no error"


__all__ = [
    "NOWHERE",
    "all_at_once",
    "last_error",
    "left_behind",
    "one_order",
    "refused_once",
    "send_again",
]
