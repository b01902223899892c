"""The exercises of notebook 08; the first three are in `timeouts.py`."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from labkit.client.traffic import Traffic
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    HEAD,
    PATH,
    RULE_HEAD,
    V1,
    GatewayExercise,
    applied,
    current_rules,
    frozen_order,
    is_untouched,
    locked_orders,
    newest_order,
    orders_since,
    waiting_inserts,
)
from labkit.exercises.operations.timeouts import ALL, GETS, TO_V1, OnlyForUs, ReadsMayNotWait, ThreeTries
from labkit.waiting import wait_until
from labstack import waiting

RETRIES = "\n    timeout: 10s\n    retries: {attempts: 2, perTryTimeout: 0.5s, retryOn: gateway-error}"
NO_RETRIES = "\n    timeout: 10s\n    retries: {attempts: 0}"
SUBSETS = "\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}"
POOL = "\n  trafficPolicy:\n    connectionPool: "

ABORT = "{abort: {httpStatus: 503, percentage: {value: 100}}}"
FAILING_ROUTES = {
    "edsger": f"route: [{{destination: {{host: order, subset: v1}}}}]\n    fault: {ABORT}",
    "leslie": "route: [{destination: {host: order, subset: v3}}]",
    "radia": "route: [{destination: {host: order, subset: v1}}]\n    timeout: 0.5s",
    "frances": "route: [{destination: {host: order, subset: v4}}]",
}
"""Four customers whose orders fail, each with a different response flag: FI, UH, UT and NC."""


def new_order(customer: str) -> dict[str, Any]:
    """Return the body of a request that places an order."""
    return {"customer_id": customer, "destination": "rome", "items": [{"sku": "rooibos", "quantity": 1}]}


class RetryOnlyReads(GatewayExercise):
    """The gateway must not retry a write whose outcome it does not know."""

    name = "retry-only-reads"
    title = "Retry GETs for orders when they take too long, but never a POST"
    kind = "config"
    level = 2
    minutes = 6
    hints = (
        (
            "Look at the section *The order that came twice*: which setting sent the POST again, and to which "
            "requests does that rule apply?"
        ),
        (
            "Use two rules: one for {method: {exact: GET}} with the retries, one for all others with "
            "`retries: {attempts: 0}`. Each needs its own `timeout`; without `retries` Istio's default "
            "applies."
        ),
        (
            "The second rule begins:\n"
            "    - match: [{uri: {prefix: /orders}}]\n"
            "      timeout: 10s\n"
            "      retries: {attempts: 0}"
        ),
    )
    answer = applied(HEAD + GETS + RETRIES + TO_V1 + ALL + NO_RETRIES + TO_V1)
    why = (
        "Reading twice has no effect. Each POST without a key may create an order, and the gateway can't know. "
        "Istio's default retries follow this rule: they happen only when the request can't have been executed, such "
        "as after a refused connection. Retrying writes is the task of the client, which knows the intention: with an "
        "Idempotency-Key."
    )
    mistakes = (
        Wrong("lab.mesh.reset()", "GET"),
        Wrong(applied(HEAD + ALL + NO_RETRIES + TO_V1), "GET"),
        Wrong(applied(HEAD + ALL + RETRIES.replace("attempts: 2", "attempts: 1") + TO_V1), "two orders"),
        Wrong(applied(HEAD + GETS + RETRIES + TO_V1), "no rule"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(HEAD + ALL + RETRIES + TO_V1)
        return "Every request for orders gets up to three attempts, half a second each.", current_rules(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("A POST that takes too long is still sent three times.")
        with frozen_order(bench):
            tries = {line["attempts"] for line in bench.shop.traffic(2, PATH, at_once=2).log(timeout=15)}
        if min(tries) < 2:
            return wrong("A GET that takes too long gets only one attempt. A retry would do no harm.")
        before = newest_order(bench)
        posted = post_behind_a_lock(bench, "radia")
        made = orders_since(bench, before, "radia")
        if made > 1:
            return wrong(
                f"radia sent one POST while the table was locked, and has {'two' if made == 2 else made} orders."
            )
        if posted.statuses != {201: 1}:
            return wrong(f"GETs are retried. But one POST led to: {posted}. Does it have no rule, or too little time?")
        return right("GETs are retried, and one POST, however long it takes, creates one order.")


def post_behind_a_lock(bench: Bench, customer: str) -> Traffic:
    """Send one POST while writes to orders are blocked; unblock them once it is retried, or after two seconds."""
    with ThreadPoolExecutor(1) as pool:
        with locked_orders(bench):
            sent: Future[Traffic] = pool.submit(
                bench.shop.traffic, 1, "/orders", method="POST", body=new_order(customer)
            )
            waiting.poll_until(lambda: sent.done() or waiting_inserts(bench) > 1, 2)
        posted = sent.result()
    wait_until(lambda: waiting_inserts(bench) == 0, what="the order service to write the orders of the requests")
    return posted


class TakenAllTheSame(Exercise):
    """An error reports what the gateway saw, not what the service did."""

    name = "taken-all-the-same"
    title = "Four POSTs failed with four flags. Which flags are possible although the order was created?"
    kind = "diagnosis"
    level = 2
    minutes = 5
    hints = (
        (
            "The gateway knows only what it saw. Look where an accepted order would be: in the order "
            "service's database, or in the shop's list of a customer's orders."
        ),
        (
            "Use shop.orders(customer_id=...) for each customer in given.flags. An id that is greater than "
            "given.before is newer."
        ),
        (
            "It begins:\n"
            "    answer = {flag for customer, flag in given.flags.items()\n"
            "              if any(order.order_id > given.before for order in ..."
        ),
    )
    answer = """
        answer = {
            flag for customer, flag in given.flags.items()
            if any(order.order_id > given.before for order in shop.orders(customer_id=customer))
        }
    """
    why = (
        "FI, UH and NC: the gateway sent nothing, so nothing was executed; any client may retry such a request. UT: "
        "the request was sent, but no response arrived in time. The service created the order a moment later. The "
        "status is 504, the result is unknown, and this is the status after which a customer must not simply click "
        "again."
    )
    mistakes = (
        Wrong("answer = set()", "database"),
        Wrong("answer = set(given.flags.values())", "never sent"),
        Wrong('answer = {"UH"}', "no endpoint"),
        Wrong("answer = 504", "set of flags"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        rules = "".join(
            f"\n  - match: [{{uri: {{prefix: /orders}}, headers: {{x-who: {{exact: {who}}}}}}}]\n    {how}"
            for who, how in FAILING_ROUTES.items()
        )
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(f"{RULE_HEAD}{SUBSETS}, {{name: v3, labels: {{version: v3}}}}]\n", force=True)
        bench.lab.mesh.apply(f"{HEAD}{rules}{V1}\n", force=True)
        before = newest_order(bench)
        with locked_orders(bench):
            sent = {
                who: bench.shop.traffic(1, "/orders", method="POST", body=new_order(who), headers={"x-who": who})
                for who in FAILING_ROUTES
            }
        flags = {who: one.log()[0]["response_flags"] for who, one in sent.items()}
        wait_until(lambda: waiting_inserts(bench) == 0, what="the order service to write the orders of the requests")
        wait_until(lambda: orders_since(bench, before, "radia"), what="the order that got no response")
        bench.lab.mesh.reset()
        customers = ", ".join(f"{who} ({next(iter(one.statuses))})" for who, one in sent.items())
        return f"{customers} have each sent an order, and got an error. given.flags shows the flags.", {
            "flags": flags,
            "before": before,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = bench.given
        truth = {flag for who, flag in given.flags.items() if orders_since(bench, given.before, who)}
        named = {answer} if isinstance(answer, str) else answer
        if not isinstance(named, set | frozenset | list | tuple) or not set(named) <= set(given.flags.values()):
            return wrong("The answer is a set of flags from given.flags.values().")
        if set(named) == truth:
            return right(f"{', '.join(truth)}: the gateway sent that request, and only the response came too late.")
        if not named:
            return wrong("Query the database: one of the four customers has an order without knowing it.")
        if set(named) > truth:
            return wrong("Not all of them: which of these requests were never sent to the service?")
        return wrong(
            "For that flag the gateway found no endpoint, or returned the error itself. Which request did it "
            "really send?"
        )


class AFuse(GatewayExercise):
    """Rejecting seven requests immediately is better than letting ten wait."""

    name = "a-fuse"
    title = "While the order service hangs, let at most three requests wait for it, and reject the others at once"
    kind = "config"
    level = 3
    minutes = 6
    hints = (
        (
            "Look at the section *Too many at once*. A connection carries one request at a time; further "
            "requests wait in a queue. Which two numbers add up to three?"
        ),
        (
            "Use a DestinationRule with trafficPolicy.connectionPool: tcp.maxConnections and "
            "http.http1MaxPendingRequests. It replaces the old rule completely, so repeat the subsets."
        ),
        ("It ends:\n    trafficPolicy:\n      connectionPool:\n        tcp: {maxConnections: 2}\n        http: ..."),
    )
    answer = applied(f"{RULE_HEAD}{SUBSETS}]{POOL}{{tcp: {{maxConnections: 2}}, http: {{http1MaxPendingRequests: 1}}}}")
    why = (
        "Two requests have a connection, one is in the queue. A rejected client knows it at once and can show the "
        "customer a useful message, and the hanging service does not collect work that it can't do. Set the limit to "
        "what the service handles well, not to what it can endure."
    )
    mistakes = (
        Wrong(
            applied(f"{RULE_HEAD}{SUBSETS}]{POOL}{{tcp: {{maxConnections: 3}}, http: {{http1MaxPendingRequests: 3}}}}"),
            "6",
        ),
        Wrong(applied(f"{RULE_HEAD}{SUBSETS}]{POOL}{{http: {{maxRequestsPerConnection: 3}}}}"), "10"),
        Wrong(
            applied(
                f"{RULE_HEAD}{POOL}{{tcp: {{maxConnections: 2}}, http: {{http1MaxPendingRequests: 1}}}}", force=True
            ),
            "subsets",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(f"{HEAD}{ALL}\n    timeout: 15s\n    retries: {{attempts: 0}}{TO_V1}\n")
        return "A request for orders may wait fifteen seconds, and any number of requests may wait.", current_rules(
            bench
        )

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("Any number of requests may wait.")
        if set(bench.shop.traffic(2, PATH).statuses) != {200}:
            return wrong("Requests fail even without a fault. Does your rule still contain the subsets v1 and v2?")
        refused = waiting_in_turn(bench, 10).count("UO")
        if refused == 7:
            return right("Ten requests arrived: three waited, seven were rejected at once (UO).")
        return wrong(
            f"Ten requests arrived, and {10 - refused} waited. Each connection holds one, and so does each place in "
            "the queue."
        )


def waiting_in_turn(bench: Bench, times: int) -> list[str]:
    """Send requests to a frozen service, each after Envoy has counted the previous one; return their response flags.

    The service resumes after the last request, so that the requests that wait for it are answered.
    """
    name = r"8000\|v1\|order\..*upstream_(rq_active|rq_pending_active|rq_pending_overflow)$"

    def counted() -> int:
        return sum(bench.lab.mesh.statistics(name).values())

    before = counted()
    with ThreadPoolExecutor(times) as pool:
        sent = []
        with frozen_order(bench):
            for number in range(times):
                sent.append(pool.submit(bench.shop.traffic, 1, PATH))
                waiting.poll_until(lambda number=number: counted() - before > number, 2, interval=0.01)  # type: ignore[misc]
        return [line["response_flags"] for one in sent for line in one.result().log()]


EXERCISES: tuple[Exercise, ...] = (
    ThreeTries(),
    ReadsMayNotWait(),
    OnlyForUs(),
    RetryOnlyReads(),
    TakenAllTheSame(),
    AFuse(),
)
