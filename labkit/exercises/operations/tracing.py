"""The exercises of notebook 10."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Mapping
from typing import Any

from labkit.errors import KitError, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.sources.traces import RELAY, Trace
from labkit.waiting import wait_until
from labstack.clients import http

SLOWED = ("inventory", "payment", "shipping")
SLOW = 0.6
"""Additional seconds that a slow service takes for each event."""

LOCKED = 1.2
"""Seconds for which an account is locked."""

WAITING = f"""
    SELECT pid FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '{LOCKED} s'
"""


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


class TheSlowHop(Exercise):
    """Find the slow hop of one order."""

    name = "the-slow-hop"
    title = "An order took more than half a second. Which span is the cause? Answer with its label."
    kind = "diagnosis"
    level = 2
    minutes = 3
    hints = (
        (
            "Look at the picture: look.traces.of(given.order). Which bar is long itself, and is not just the "
            "frame of others? Did it begin before the order was completed?"
        ),
        "Use .slowest(to=...) of the trace, as in the section *Find the slow hop*; a span has a .label.",
        ('It begins:\n    answer = look.traces.of(given.order).slowest(to="OrderCompleted to outbox")'),
    )
    answer = 'answer = look.traces.of(given.order).slowest(to="OrderCompleted to outbox").label'
    why = (
        "A long span may only wait for its children; here no span waits for another, so a long span is slow. It "
        "delayed the order only if it led to the order's last event; a handler of OrderCompleted is too late for that. "
        "Metrics, as in 09, show which service is slow on average. A trace shows which one was slow for this order, "
        "and at which event."
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
        answer = getattr(answer, "label", answer)  # slowest() returns the span itself
        found = [span for span in trace.spans if span.label == answer]
        if not found:
            return wrong(f"No span of this trace has the label {answer!r}; trace.tree() shows them.")
        span = max(found, key=trace.own_milliseconds)
        if trace.own_milliseconds(span) < 1000 * SLOW / 2:
            return wrong(f"{answer} itself took {span.milliseconds:.0f} milliseconds. Another span took far longer.")
        if span not in trace.path("OrderCompleted to outbox"):
            return wrong(
                f"{answer} took {span.milliseconds:.0f} milliseconds, but did not lead to OrderCompleted: the order "
                "was completed without it."
            )
        return right(f"{span.milliseconds:.0f} milliseconds, in the handler itself.")

    def cleanup(self, bench: Bench) -> str:
        switch_off(bench, "slow-handler")
        return "Every service runs at normal speed."


class TheSearch(Exercise):
    """A search that finds slow handlers among all traces."""

    name = "the-search"
    title = "Write the search with which Jaeger finds the orders that waited in payment's handler, and no others"
    kind = "query"
    level = 2
    minutes = 9
    hints = (
        "Look at the trace of one of the slow orders: look.traces.of(given.slow[0]). Which service's span is long, and "
        "what is the span called?",
        "Jaeger's API, GET /api/traces, takes service, operation, tags, minDuration (such as 200ms) and limit, as its "
        "search page does. The duration is that of a span, not of the trace.",
        'It begins:\n    answer = {"service": "payment", "operation": ...',
    )
    answer = """
        answer = {"service": "payment", "operation": "payment handles InventoryReserved", "minDuration": "800ms"}
    """
    why = (
        "You need no order's id: a service, an operation and a duration find each trace that contains such a span. "
        "Start from the alert of 09 (payment is slow) and search for examples. The same question to other stores: in "
        'Grafana\'s Tempo, { resource.service.name = "payment" && duration > 800ms }.'
    )
    mistakes = (
        Wrong('answer = {"service": "payment"}', "also finds"),
        Wrong('answer = {"service": "order", "minDuration": "800ms"}', "only waited"),
        Wrong('answer = {"service": "payment", "tags": {"error": "true"}, "minDuration": "800ms"}', "no error"),
        Wrong('answer = {"service": "payment", "minDuration": "300"}', "Jaeger"),
        Wrong('answer = {"operation": "payment handles InventoryReserved"}', "Which one"),
        Wrong("answer = given.slow", "parameters"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        quick = [one_order(bench) for _ in range(3)]
        slow = []
        for _ in range(2):
            with bench.look.db.connect("payment") as db:
                # As a clerk's forgotten transaction does.
                db.execute("SELECT FROM accounts WHERE customer_id = 'ada' FOR UPDATE")
                placed = bench.shop.place_order("ada", "lisbon", {"earl-grey": 1})
                wait_until(lambda: len(bench.look.db.rows("payment", WAITING)), 10, what="payment to wait for the row")
            slow.append(bench.shop.follow(placed).order_id)
        for order in slow:
            bench.look.traces.of(order)
        return "Five orders were completed; two of them waited in payment for a locked account.", {
            "quick": quick,
            "slow": slow,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, Mapping):
            return wrong("The answer is a dict of the parameters of GET /api/traces, such as {'service': 'order'}.")
        if answer.get("service") not in (known := (*bench.lab.endpoints.services, RELAY)):
            return wrong(f"Jaeger searches the spans of one service. Which one of {', '.join(known)}?")
        if not bench.lab.endpoints.jaeger:
            return untouched("This lab has no Jaeger: `lab install jaeger`, then `lab up`.")
        query = {str(name): json.dumps(v) if isinstance(v, Mapping) else str(v) for name, v in answer.items()}
        found = http.get(f"{bench.lab.endpoints.jaeger}/api/traces", params={"limit": "100"} | query, timeout=10)
        if not found.is_success:
            return wrong(f"Jaeger rejects the search: {'; '.join(e['msg'] for e in found.json().get('errors') or [])}.")
        tags = [tag for trace in found.json()["data"] for span in trace["spans"] for tag in span["tags"]]
        orders = {tag["value"] for tag in tags if tag["key"] == "order.id"}
        quick, slow = set(bench.given.quick), set(bench.given.slow)
        if orders & quick:
            return wrong(
                f"The search also finds {len(orders & quick)} of the three quick orders: on a working day it would "
                "return thousands of healthy traces. What tells the slow ones apart?"
            )
        if "error" in str(query.get("tags", "")):
            return wrong("It finds none of them: the handlers waited, and then succeeded. Being slow is no error.")
        if not orders & slow:
            return wrong(
                f"It finds none of the two. {query.get('service')}'s own spans are short: it only waited, and so it "
                "has no long span. Whose span was long, and how long?"
            )
        if slow - orders:
            return wrong("It finds one of the two slow orders.")
        return right(f"Jaeger found both, among {len(quick) + len(slow)}, without an order's id.")


class TimeInTheRelay(Exercise):
    """Add up the time in the relay."""

    name = "time-in-the-relay"
    title = "How many milliseconds did the events of given.order spend in the relay, in total?"
    kind = "diagnosis"
    level = 1
    minutes = 3
    hints = (
        (
            "Look at look.traces.of(given.order).spans: each span has .service and .milliseconds. The relay "
            "has as many spans as there are events."
        ),
        'Use a sum over the spans of the service "debezium", as in the cell after the first tree.',
        ("It begins:\n    answer = sum(span.milliseconds for span in look.traces.of(given.order).spans if ..."),
    )
    answer = f"""
        answer = sum(span.milliseconds for span in look.traces.of(given.order).spans if span.service == "{RELAY}")
    """
    why = (
        "A row waits until PostgreSQL's log is read, decoded and sent to Kafka. It is the price of never losing an "
        "event. Debezium's poll.interval.ms determines most of it: 4 ms here (20 ms on macOS), 500 ms by default."
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
    kind = "diagnosis"
    level = 2
    minutes = 5
    hints = (
        (
            "Look at all parts: look.traces.all_of(given.order). The second part starts with the handling of "
            "an event, not with a request. Which event is it?"
        ),
        (
            'Use the root of the second part: its attributes["event.type"] is that event. The service that '
            "published it has a span `... to outbox` of that type in the first part."
        ),
        (
            "It begins:\n"
            "    first, second = look.traces.all_of(given.order)[:2]\n"
            '    event = second.roots[0].attributes["event.type"]'
        ),
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
        answer = str(answer).strip().casefold()
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


FIELDS = (("version", 2), ("trace id", 32), ("span id", 16), ("flags", 2))
"""The fields of a traceparent, each with its number of digits: https://www.w3.org/TR/trace-context/#traceparent-header"""
SENT = """
    import httpx
    answer = f"{header}"
    httpx.post(
        f"{{lab.endpoints.gateway}}/orders",
        headers={{"traceparent": answer}},
        json={{"customer_id": "ada", "destination": "lisbon", "items": [{{"sku": "earl-grey", "quantity": 1}}]}},
    )
"""


def malformation(traceparent: str) -> str:
    """Return what is wrong with a traceparent, as the rest of a sentence; empty if it is well-formed."""
    fields = traceparent.split("-")
    if len(fields) != len(FIELDS):
        return f"it has {len(fields)} fields instead of {len(FIELDS)} (version, trace id, span id and flags)"
    for (name, digits), field in zip(FIELDS, fields, strict=True):
        if len(field) != digits:
            return f"its {name} has {len(field)} digits instead of {digits}"
        if field != field.lower():
            return f"its {name} has capital letters"
        if set(field) - set("0123456789abcdef"):
            return f"its {name} has other characters than hexadecimal digits"
    for (name, _), field in list(zip(FIELDS, fields, strict=True))[1:3]:
        if not field.strip("0"):
            return f"its {name} has only zeros"
    return "its version is ff" if fields[0] == "ff" else ""


class YourOwnTrace(Exercise):
    """A client may start the trace."""

    name = "your-own-trace"
    title = "Place an order whose trace has the id given.trace_id, like a client that traces its own requests."
    kind = "code"
    level = 2
    minutes = 6
    hints = (
        (
            "Look at the section *How the trace context is passed on*: a trace travels in the header traceparent. "
            "Who sends the first one, if the client traces its own requests?"
        ),
        (
            'Use httpx.post(f"{lab.endpoints.gateway}/orders", json=..., headers=...). The header is '
            "00-TRACE_ID-SPAN_ID-FLAGS: 16 hexadecimal digits of your choice for the span, and the flags 01 "
            "(*sampled*). 09 has an order as JSON, in *Falling behind*."
        ),
        (
            "It begins:\n"
            '    answer = f"00-{given.trace_id}-...\n'
            '    httpx.post(f"{lab.endpoints.gateway}/orders", headers={"traceparent": answer}, json='
        ),
    )
    answer = """
        import httpx
        answer = f"00-{given.trace_id}-00f067aa0ba902b7-01"
        httpx.post(
            f"{lab.endpoints.gateway}/orders",
            headers={"traceparent": answer},
            json={"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]},
        ).raise_for_status()
    """
    why = (
        "The first component of a trace chooses its id and decides whether it is recorded: the flag travels with it "
        "through every header and column. This way a shop records one request in a hundred, each of them completely. "
        "A malformed header is ignored, and another trace starts: no error reports it."
    )
    mistakes = (
        Wrong(
            """
            answer = f"00-{given.trace_id}-00f067aa0ba902b7-01"
            shop.place_order("ada", "lisbon", {"earl-grey": 1})
            """,
            "another",
        ),
        Wrong(SENT.format(header="00-{given.trace_id}-00f067aa0ba902b7-00"), "flags"),
        Wrong(SENT.format(header="00-{given.trace_id}-f067-01"), "its span id has 4 digits instead of 16"),
        Wrong(SENT.format(header="{given.trace_id}-00f067aa0ba902b7-01"), "3 fields instead of 4"),
        Wrong(SENT.format(header="00-{given.trace_id.upper()}-00f067aa0ba902b7-01"), "capital letters"),
        Wrong(SENT.format(header="00-{given.trace_id}-0000000000000000-01"), "only zeros"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        return "The id is random.", {"trace_id": secrets.token_hex(16), "before": newest}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, str):
            return wrong("The answer is the text of the header, such as '00-…-…-01'.")
        answer = answer.strip()
        if fault := malformation(answer):
            return wrong(
                f"This header is malformed: {fault}. Such a header is ignored, and the order gets another trace: no "
                "error reports it."
            )
        if answer.split("-")[1] != bench.given.trace_id:
            return wrong("The header is well-formed, but its trace id is not given.trace_id.")
        if not int(flags := answer[-2:], 16) % 2:
            return wrong(
                f"The id is correct, but the flags are {flags}: such a trace is not recorded. 01 means that it is."
            )
        newest = next((order.order_id for order in bench.shop.orders(limit="1")), "")
        if newest == bench.given.before:
            return untouched("There is no new order yet.")
        query = "SELECT traceparent FROM outbox WHERE aggregateid = %s AND type = 'OrderCreated'"
        with bench.look.db.connect("order") as db:
            row = db.execute(query, [newest]).fetchone()
        traceparent = str(row[0]) if row else ""
        if bench.given.trace_id not in traceparent:
            return wrong(
                "The header is well-formed, but the newest order belongs to another trace. Did your request contain "
                "the header, under the name traceparent?"
            )
        try:
            trace = bench.look.traces.of(bench.given.trace_id)
        except (WaitTimedOut, KitError) as error:
            return wrong(f"The order has the trace's id, but there is no trace: {error.problem}")
        return right(f"{len(trace.spans)} spans so far, all under your id.")


EXERCISES = (TheSlowHop(), TheSearch(), TimeInTheRelay(), WhoCutsTheTrace(), YourOwnTrace())
