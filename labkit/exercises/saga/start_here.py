"""The exercises of notebook 00."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong


class HowManyDatabases(Exercise):
    """One database for each service, each with a separate server."""

    name = "how-many-databases"
    title = "How many PostgreSQL servers run?"
    tip = "Each line of lab.status() or `lab` is one component. Which of them are databases?"
    answer = "answer = sum(name.endswith('-db') for name in lab.status().components)"
    why = (
        "Four: each service owns its data and has a PostgreSQL server of its own. No service can read another's "
        "tables, so whatever one must know of another has to be said, as an event. That is what the whole course is "
        "about. (In production four databases often share a server; here each can be stopped alone.)"
    )
    mistakes = (
        Wrong("answer = 1", "a server of its own"),
        Wrong("answer = len(lab.status().components)", "counted every component"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        components = bench.lab.status(memory=False).components
        databases = [name for name in components if name.endswith("-db")]
        if answer == len(databases):
            return right(f"{len(databases)}: {', '.join(sorted(databases))}.")
        if answer == len(components):
            return wrong("You counted every component. Which of them keep the tables?")
        return wrong("Does one service share its tables with another? Each has a server of its own: count them.")


class SoldOut(Exercise):
    """Only stock that is on hand and not reserved can be sold."""

    name = "sold-out"
    title = "Which product can nobody buy today?"
    tip = "shop.products() has a member `available` for each product: on_hand − reserved."
    answer = "answer = next(p['sku'] for p in shop.products() if p['available'] == 0)"
    why = (
        "What can be sold is not what lies in the warehouse but the part of it that is not promised to an order yet: "
        "available = on_hand − reserved. First Snow White has none of either until spring."
    )
    mistakes = (
        Wrong("answer = 'kintsugi-bowl'", "available"),
        Wrong("answer = 'First Snow White Tea'", "sku"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        products = {product["sku"]: product for product in bench.shop.products()}
        if isinstance(answer, list | tuple | set) and len(answer) == 1:
            (answer,) = answer
        if answer not in products:
            return wrong("There is no such sku. The answer is a product's sku, as orders name it: 'earl-grey', say.")
        left = products[answer]["available"]
        if left:
            return wrong(f"Of {answer} there are {left} available. Look for one with nothing available at all.")
        return right(f"{answer}: nothing on hand, so nothing to promise.")


class YourFirstOrder(Exercise):
    """An order through the same API that every client uses."""

    name = "your-first-order"
    title = "Order three packs of sencha for grace, to vienna"
    tip = 'shop.place_order("ada", "lisbon", {"earl-grey": 2}) was the first order. Change who, where to, and what.'
    answer = 'shop.follow(shop.place_order("grace", "vienna", {"sencha": 3}))'
    why = (
        "POST /orders answers at once, with the order PENDING: the service has written the order and its event and "
        "promises no more than that. The rest happens after the answer; shop.follow asks until it is done."
    )
    mistakes = (
        Wrong('shop.follow(shop.place_order("grace", "vienna", {"sencha": 1}))', "three"),
        Wrong('shop.follow(shop.place_order("ada", "vienna", {"sencha": 3}))', "grace"),
        Wrong('shop.follow(shop.place_order("grace", "lisbon", {"sencha": 3}))', "vienna"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "Noted which orders are there already. Now it is your turn.", {"before": _newest(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = _orders_since(bench, bench.given.before)
        if not new:
            return untouched("There is no new order since the setup.")
        complaint = ""
        for order in new:
            told = order.document
            quantity = sum(line["quantity"] for line in told["items"] if line["sku"] == "sencha")
            if told["customer_id"] != "grace":
                complaint = complaint or f"There is a new order, but of {told['customer_id']}; it should be grace's."
            elif told["destination"] != "vienna":
                complaint = complaint or f"Grace's parcel goes to {told['destination']}; it should go to vienna."
            elif quantity != 3 or len(told["items"]) != 1:
                complaint = complaint or "It should be three packs of sencha, and nothing else."
            elif bench.shop.follow(order).status == "COMPLETED":
                return right("Grace's order is COMPLETED: reserved, paid, and on its way to Vienna.")
        return wrong(complaint or "The order is there, but it did not complete. What does its failure_reason say?")


class AcceptedYetDoomed(Exercise):
    """HTTP 201 means accepted, not completed."""

    name = "accepted-yet-doomed"
    title = "Place an order that is accepted (201) and still fails"
    tip = (
        "The order service checks only what it knows itself: that the sku exists, that the quantity is sane. It knows "
        "nothing of stock, money and carriers. Is there a product with no stock, or a customer with no money?"
    )
    answer = 'shop.follow(shop.place_order("penniless-pia", "rome", {"earl-grey": 1}))'
    why = (
        "A wrong request is refused at the door: 422, and nothing is written. Whether there is stock, money and a "
        "carrier only the other services know, and they are asked by events, after the answer. So an accepted order "
        "can fail later. It is then undone step by step, and CANCELLED: no transaction spans four databases."
    )
    mistakes = (
        Wrong('shop.follow(shop.place_order("ada", "rome", {"earl-grey": 1}))', "went well"),
        Wrong('shop.follow(shop.place_order("ada", "rome", {"rooibos": 1000}))', "went well"),
        Wrong(
            """
            order = shop.place_order("ada", "rome", {"earl-grey": 1})
            shop.cancel(order)
            """,
            "yourself",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "Noted which orders are there already. Now break one.", {"before": _newest(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = [bench.shop.follow(order) for order in _orders_since(bench, bench.given.before)]
        if not new:
            return untouched("There is no new order since the setup; one that was refused with 422 leaves none.")
        failed = [order.failure_reason for order in new if order.status == "CANCELLED"]
        if others := [reason for reason in failed if reason != "cancelled_by_customer"]:
            return right(f"Accepted with 201, and CANCELLED later: {others[0]}.")
        if failed:
            return wrong("You called it off yourself. Which order fails without that?")
        return wrong("Your order went well. Who or what would make inventory, payment or shipping say no?")


class WhoIsDown(Exercise):
    """Find the component that is down, and start it."""

    name = "who-is-down"
    title = "One part is down: find it and start it"
    tip = "Look at `lab`: a component that doesn't run has another sign than the others. lab.start(name) starts it."
    answer = """
        answer = next(name for name, c in lab.status().components.items() if c.state != "running")
        lab.start(answer)
    """
    why = (
        "Orders were accepted all the while, and none is lost: what shipping has to do waits in Kafka as records until "
        "it is back. Parts that speak by events need not be up at the same time."
    )
    mistakes = (
        Wrong('answer = "connect"', "Look again"),
        Wrong('answer = "shipping"', "still down"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.stop("shipping")
        return "Something was stopped. What?", {"stopped": "shipping"}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        stopped = bench.given.stopped
        runs = bench.lab.status(memory=False).components[stopped].state == "running"
        if answer != stopped:
            return wrong(f"{answer} is not it. Look again: which component's state is not `running`?")
        if not runs:
            return wrong(f"{stopped} it is, and it is still down. Which verb of `lab` brings it back?")
        return right(f"{stopped} was down, and runs again.")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start(bench.given.stopped)
        return "Every part runs again."


def _newest(bench: Bench) -> str:
    return next((order.order_id for order in bench.shop.orders(limit="1")), "")


def _orders_since(bench: Bench, before: str) -> list[Any]:
    """Return the orders placed after a given one; the ids are UUIDs of version 7, so they sort by time."""
    new = []
    for order in bench.shop.orders(limit="50"):
        if order.order_id <= before:
            break
        new.append(order)
    return new


EXERCISES: tuple[Exercise, ...] = (
    HowManyDatabases(),
    SoldOut(),
    YourFirstOrder(),
    AcceptedYetDoomed(),
    WhoIsDown(),
)
