"""The exercises of notebook 10."""

from __future__ import annotations

import random
import secrets
from typing import Any

from labkit.errors import KitError, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.inspect.sources.traces import RELAY, Trace

SLOWED = ("inventory", "payment", "shipping")
SLOW = 0.6
"""Additional seconds that a slow service takes for each event."""


def one_order(bench: Bench) -> str:
    """Place an order, wait until it ends, and return its id."""
    return bench.shop.follow(bench.shop.place_order("ada", "lisbon", {"earl-grey": 1})).order_id


def services_with(bench: Bench, switch: str) -> list[str]:
    """Return the services in which a fault switch is on."""
    return [service for service, on in bench.lab.faults.active.items() if switch in on]


def switch_off(bench: Bench, switch: str) -> None:
    """Turn a fault switch off in every service."""
    for service in services_with(bench, switch):
        bench.lab.faults.off(service, switch)


class WhoseChild(Exercise):
    """Parent spans cross the relay."""

    name = "whose-child"
    title = "Two services handle OrderCompleted. Which span is the parent of both? Answer with its label."
    tip = "A span starts after its parent, which passed the event on. trace.tree() shows a label in each line."
    answer = 'answer = "debezium: OrderCompleted relayed"'
    why = (
        "One record has two readers: the trace forks behind the relay. If the services called each other, there would "
        "be a client span here. In a choreography the fork is a topic, and a new consumer appears below it without a "
        "change."
    )
    mistakes = (
        Wrong('answer = "order: OrderCompleted to outbox"', "between"),
        Wrong('answer = "order handles ShipmentScheduled"', "between"),
        Wrong('answer = "inventory handles OrderCompleted"', "one of the two"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if answer in ("inventory handles OrderCompleted", "shipping handles OrderCompleted"):
            return wrong("That is one of the two. Which span do both continue?")
        if answer not in (f"{RELAY}: OrderCompleted relayed", "OrderCompleted relayed"):
            return wrong("There is a span between that one and the handlers: which component carries the row to them?")
        return right("The relay's span: from there the trace has two branches.")


class TheSlowHop(Exercise):
    """Find the slow hop of one order."""

    name = "the-slow-hop"
    title = "An order took more than half a second. Which span is the cause? Answer with its label."
    tip = (
        "look.traces.of(given.order) draws it. `slowest()` finds the span with the longest time of its own; `.label` "
        "is its label."
    )
    answer = "answer = look.traces.of(given.order).slowest().label"
    why = (
        "A long span may only wait for its children; here no span waits for another, so a long span is slow. The "
        "metrics of 09 show that payment is slow on average. A trace shows that it was payment for this order, and at "
        "which event."
    )
    mistakes = (
        Wrong('answer = "order: POST /orders"', "milliseconds"),
        Wrong('answer = "debezium: OrderCreated relayed"', "milliseconds"),
        Wrong('answer = "payment"', "label"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        switch_off(bench, "slow-handler")
        bench.lab.faults.on(random.choice(SLOWED), "slow-handler", str(SLOW))
        order = one_order(bench)
        return "An order went through, slowly.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        trace = bench.look.traces.of(bench.given.order).trace
        found = [span for span in trace.spans if span.label == answer]
        if not found:
            return wrong(f"No span of this trace has the label {answer!r}; trace.tree() shows them.")
        span = max(found, key=trace.own_milliseconds)
        if trace.own_milliseconds(span) < 1000 * SLOW / 2:
            return wrong(f"{answer} itself took {span.milliseconds:.0f} milliseconds. Another span took far longer.")
        return right(f"{span.milliseconds:.0f} milliseconds, in the handler itself.")

    def cleanup(self, bench: Bench) -> str:
        switch_off(bench, "slow-handler")
        return "Every service runs at normal speed."


class TimeInTheRelay(Exercise):
    """Add up the time in the relay."""

    name = "time-in-the-relay"
    title = "How many milliseconds did the events of given.order spend in the relay, in total?"
    tip = (
        "The spans are in look.traces.of(given.order).spans, each with .service and .milliseconds. "
        f'The relay is "{RELAY}".'
    )
    answer = f"""
        answer = sum(span.milliseconds for span in look.traces.of(given.order).spans if span.service == "{RELAY}")
    """
    why = (
        "Usually more than all handlers together: a row waits until PostgreSQL's log is read, decoded and sent to "
        "Kafka. It is the price of never losing an event. Debezium's poll.interval.ms determines most of it: 20 ms "
        "here, 500 ms by default."
    )
    mistakes = (
        Wrong("answer = look.traces.of(given.order).milliseconds", "whole trace"),
        Wrong("answer = sum(span.milliseconds for span in look.traces.of(given.order).spans)", "not only"),
        Wrong("answer = 'much'", "number"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "An order went through.", {"order": one_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, int | float):
            return wrong("The answer is a number of milliseconds.")
        trace = bench.look.traces.of(bench.given.order).trace
        truth = in_relay(trace)
        if abs(answer - truth) < 1:
            return right(f"{truth:.0f} of {trace.milliseconds:.0f} milliseconds.")
        if abs(answer - trace.milliseconds) < 1:
            return wrong("That is the whole trace, from its first start to its last end.")
        return wrong("That is not only the relay, or not the whole relay. It has as many spans as there are events.")


def in_relay(trace: Trace) -> float:
    """Return the total time of the events in the relay, in milliseconds."""
    return sum(span.milliseconds for span in trace.spans if span.service == RELAY)


class WhoCutsTheTrace(Exercise):
    """Find the service that drops the trace context."""

    name = "who-cuts-the-trace"
    title = "Since this morning an order has several traces. Which service breaks the trace?"
    tip = (
        "look.traces.all_of(given.order) has all parts. The second part does not start with a request, but "
        "with the handling "
        "of an event. Which service published that event without its trace context?"
    )
    answer = """
        first, second = look.traces.all_of(given.order)[:2]
        event = second.roots[0].attributes["event.type"]
        answer = next(span.service for span in first.spans if span.name == f"{event} to outbox")
    """
    why = (
        "A trace context passes from header to column to header to column. If one service drops it, a new trace "
        "starts for everything after it, and no error reports it. In a real system the cause is a missing column in "
        "one outbox, or a library that ignores headers. Look for roots that are not requests."
    )
    mistakes = (
        Wrong("answer = look.traces.all_of(given.order)[1].roots[0].service", "received"),
        Wrong("answer = 'debezium'", "column"),
        Wrong("answer = 'kafka'", "four services"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        switch_off(bench, "strip-traceparent")
        bench.lab.faults.on(random.choice(SLOWED), "strip-traceparent")
        return "An order went through, in several traces.", {"order": one_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if answer == RELAY:
            return wrong("The relay copies the value of the row's column. Does it have a value?")
        if answer not in bench.lab.endpoints.services:
            return wrong(f"{answer!r} is not one of the four services.")
        cutting = services_with(bench, "strip-traceparent")
        if not cutting:
            return untouched("No service breaks the trace any more: run the setup again.")
        if answer not in cutting:
            return wrong(
                f"{answer} passes on what it received. Which service sent it, or its consumer, an event without a "
                "trace context?"
            )
        return right(f"{answer} writes rows with an empty traceparent.")

    def cleanup(self, bench: Bench) -> str:
        switch_off(bench, "strip-traceparent")
        return "Every service passes its traceparent on."


class YourOwnTrace(Exercise):
    """A client may start the trace."""

    name = "your-own-trace"
    title = "Place an order whose trace has the id given.trace_id, as a client that traces its requests would do."
    tip = (
        "W3C Trace Context: the header traceparent is 00-TRACE_ID-SPAN_ID-FLAGS, with 16 hexadecimal digits of your "
        'choice for the span and 01 for the flags, *sampled*. httpx.post(f"{lab.endpoints.gateway}/orders", json=..., '
        "headers=...)."
    )
    answer = """
        import httpx
        httpx.post(
            f"{lab.endpoints.gateway}/orders",
            headers={"traceparent": f"00-{given.trace_id}-00f067aa0ba902b7-01"},
            json={"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]},
        ).raise_for_status()
    """
    why = (
        "The first component of a trace chooses its id and decides whether it is recorded: the flag travels with it "
        "through every header and column. This way a shop records one request in a hundred, each of them completely."
    )
    mistakes = (
        Wrong("shop.place_order('ada', 'lisbon', {'earl-grey': 1})", "another"),
        Wrong(
            """
            import httpx
            httpx.post(
                f"{lab.endpoints.gateway}/orders",
                headers={"traceparent": f"00-{given.trace_id}-00f067aa0ba902b7-00"},
                json={"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]},
            )
            """,
            "flags",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        return "The id is random.", {"trace_id": secrets.token_hex(16), "before": newest}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        if newest == bench.given.before:
            return untouched("There is no new order yet.")
        query = "SELECT traceparent FROM outbox WHERE aggregateid = %s AND type = 'OrderCreated'"
        with bench.look.db.connect("order") as db:
            row = db.execute(query, [newest]).fetchone()
        traceparent = str(row[0]) if row else ""
        if bench.given.trace_id not in traceparent:
            return wrong("The newest order belongs to another trace. Did your request contain the header?")
        if traceparent.endswith("-00"):
            return wrong("The id is correct, but the flags are 00: such a trace is not recorded. 01 means that it is.")
        try:
            trace = bench.look.traces.of(bench.given.trace_id)
        except (WaitTimedOut, KitError) as error:
            return wrong(f"The order has the trace's id, but there is no trace: {error.problem}")
        return right(f"{len(trace.spans)} spans so far, all under your id.")


EXERCISES = (WhoseChild(), TheSlowHop(), TimeInTheRelay(), WhoCutsTheTrace(), YourOwnTrace())
