"""The exercises of notebook 00."""

from __future__ import annotations

import re
from typing import Any

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong


class HowManyDatabases(Exercise):
    """One database for each service, each with a separate server."""

    name = "how-many-databases"
    title = "How many PostgreSQL servers are running?"
    kind = "recall"
    level = 1
    minutes = 1
    hints = (
        "Each line of `lab` is one component. Which of them store tables?",
        "lab.status().components is a dict by name; the names of databases have the same ending.",
        "It begins:\n    answer = sum(name.endswith(... ",
    )
    answer = "answer = sum(name.endswith('-db') for name in lab.status().components)"
    why = (
        "Four: each service owns its data and has its own PostgreSQL server. No service can read another's tables, so "
        "a service publishes as events what the others need to know. The whole course is about this. (In production "
        "four databases often share a server; here you can stop each one alone.)"
    )
    mistakes = (
        Wrong("answer = 1", "its own server"),
        Wrong("answer = len(lab.status().components)", "counted every component"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        components = bench.lab.status(memory=False).components
        databases = [name for name in components if name.endswith("-db")]
        if isinstance(answer, str) and (number := re.match(r"\s*(\d+)", answer)):  # "4, because ..." is an answer, too
            answer = int(number[1])
        if answer == len(databases):
            return right(
                f"{len(databases)}: {', '.join(sorted(databases))}. Not just one: each service owns its data, and you "
                "can stop each database alone."
            )
        if answer == len(components):
            return wrong("You counted every component. Which of them store the tables?")
        return wrong("Does one service share its tables with another? Each has its own server: count them.")


class SoldOut(Exercise):
    """Only stock that is on hand and not reserved can be sold."""

    name = "sold-out"
    title = "Which product can't be bought today?"
    kind = "diagnosis"
    level = 1
    minutes = 2
    hints = (
        "A product can be sold as long as a part of it is not reserved for another order.",
        "shop.products() is a list of dicts; `available` is on_hand − reserved. Orders name a product by its `sku`.",
        'It begins:\n    answer = next(p["sku"] for p in shop.products() if ...',
    )
    answer = "answer = next(p['sku'] for p in shop.products() if p['available'] == 0)"
    why = (
        "The shop can sell only the part of its stock that is not reserved for another order: available = on_hand − "
        "reserved. First Snow White has no stock at all until spring."
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
            return wrong("There is no such sku. The answer is a product's sku, as orders use it, such as 'earl-grey'.")
        left = products[answer]["available"]
        if left:
            return wrong(f"{answer} has {left} available. Look for a product with none available.")
        return right(f"{answer}: nothing on hand, so nothing to reserve.")


class YourFirstOrder(Exercise):
    """An order through the same API that every client uses."""

    name = "your-first-order"
    title = "Place an order of three packs of sencha for grace, to vienna"
    kind = "operation"
    level = 1
    minutes = 2
    hints = (
        "The first order of this notebook was one line of code. What is different in this one?",
        "shop.place_order(customer, destination, {sku: quantity}); shop.follow(order) waits until it ends.",
        'It begins:\n    shop.place_order("grace", ...',
    )
    answer = 'shop.follow(shop.place_order("grace", "vienna", {"sencha": 3}))'
    why = (
        "POST /orders answers at once, with the order PENDING: the service has written the order and its event, and "
        "promises nothing more. The rest happens after the response; shop.follow polls until the order ends."
    )
    mistakes = (
        Wrong('shop.follow(shop.place_order("grace", "vienna", {"sencha": 1}))', "three"),
        Wrong('shop.follow(shop.place_order("ada", "vienna", {"sencha": 3}))', "grace"),
        Wrong('shop.follow(shop.place_order("grace", "lisbon", {"sencha": 3}))', "vienna"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "The existing orders are recorded. Now it is your turn.", {"before": _newest(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = _orders_since(bench, bench.given.before)
        if not new:
            return untouched("There is no new order since the setup.")
        problem = ""
        for order in new:
            document = order.document
            quantity = sum(line["quantity"] for line in document["items"] if line["sku"] == "sencha")
            if document["customer_id"] != "grace":
                problem = (
                    problem
                    or f"There is a new order, but its customer is {document['customer_id']}; it should be grace."
                )
            elif document["destination"] != "vienna":
                problem = problem or f"Grace's parcel goes to {document['destination']}; it should go to vienna."
            elif quantity != 3 or len(document["items"]) != 1:
                problem = problem or "It should be three packs of sencha, and nothing else."
            elif bench.shop.follow(order).status == "COMPLETED":
                return right("Grace's order is COMPLETED: reserved, paid, and on its way to Vienna.")
        return wrong(problem or "The order exists, but it did not complete. What is its failure_reason?")


class AcceptedYetDoomed(Exercise):
    """HTTP 201 means accepted, not completed."""

    name = "accepted-yet-doomed"
    title = "Place an order that is accepted (201) and still fails"
    kind = "operation"
    level = 1
    minutes = 3
    hints = (
        "The order service checks only its own data: that the sku exists, and that the quantity is valid. Which "
        "reasons to fail can it not know?",
        "datasets/README.md lists customers with little money, products with no stock, and places that no carrier "
        "serves. Any one of them is enough.",
        'It begins:\n    shop.follow(shop.place_order("penniless-pia", ...',
    )
    answer = 'shop.follow(shop.place_order("penniless-pia", "rome", {"earl-grey": 1}))'
    why = (
        "An invalid request is rejected at once: 422, and nothing is written. Only the other services know about "
        "stock, money and carriers, and they learn of the order by events, after the response. So an accepted order "
        "can fail later. It is then undone step by step, and CANCELLED: no transaction spans four databases."
    )
    mistakes = (
        Wrong('shop.follow(shop.place_order("ada", "rome", {"earl-grey": 1}))', "succeeded"),
        Wrong('shop.follow(shop.place_order("ada", "rome", {"rooibos": 1000}))', "succeeded"),
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
        return "The existing orders are recorded. Now make one fail.", {"before": _newest(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        new = [bench.shop.follow(order) for order in _orders_since(bench, bench.given.before)]
        if not new:
            return untouched(
                "There is no new order since the setup; a request that was rejected with 422 creates none."
            )
        failed = [order.failure_reason for order in new if order.status == "CANCELLED"]
        if others := [reason for reason in failed if reason != "cancelled_by_customer"]:
            return right(f"Accepted with 201, and CANCELLED later: {others[0]}.")
        if failed:
            return wrong("You cancelled it yourself. Which order fails without that?")
        return wrong("Your order succeeded. What would make inventory, payment or shipping reject it?")


class WhoIsDown(Exercise):
    """Find the component that is down, and start it."""

    name = "who-is-down"
    title = "One component is down: find it and start it"
    kind = "diagnosis"
    level = 1
    minutes = 2
    hidden = ("stopped",)
    hints = (
        "Run `lab` in a new cell: a component that is not running has a different sign.",
        'lab.status().components[name].state is "running" for all but one; lab.start(name) starts it.',
        "It begins:\n    answer = next(name for name, c in lab.status().components.items() if c.state != ...",
    )
    answer = """
        answer = next(name for name, c in lab.status().components.items() if c.state != "running")
        lab.start(answer)
    """
    why = (
        "Orders were accepted all the time, and none is lost: the records for shipping wait in Kafka until it is "
        "running again. Services that communicate by events need not run at the same time."
    )
    mistakes = (
        Wrong('answer = "connect"', "Look again"),
        Wrong('answer = "shipping"', "still down"),
        Wrong("answer = lab.status()", "name of a component"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.stop("shipping")
        return "One component was stopped. Which one?", {"stopped": "shipping"}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        stopped = bench.given.stopped
        if not isinstance(answer, str):
            return wrong("The answer is the name of a component, as `lab` shows it, such as 'kafka'.")
        runs = bench.lab.status(memory=False).components[stopped].state == "running"
        if answer != stopped:
            return wrong(f"{answer} is not correct. Look again: which component's state is not `running`?")
        if not runs:
            return wrong(f"{stopped} is correct, but it is still down. Which method of `lab` starts it?")
        return right(f"{stopped} was down, and is running again.")

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start(bench.given.stopped)
        return "Every component is running again."


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
