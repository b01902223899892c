"""The exercises of notebook 08; the first three are in `timeouts.py`."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from labkit.client.traffic import Traffic
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    ASK,
    HEAD,
    RULE_HEAD,
    V1,
    applied,
    as_it_is,
    frozen_order,
    is_untouched,
    locked_orders,
    newest_order,
    orders_since,
    put_back,
    waiting_inserts,
)
from labkit.exercises.operations.timeouts import ALL, GETS, TO_V1, HowManyTries, OnlyForUs, ReadsMayNotWait
from labkit.waiting import wait_until
from labstack import waiting

RETRIES = "\n    timeout: 10s\n    retries: {attempts: 2, perTryTimeout: 0.5s, retryOn: gateway-error}"
NO_RETRIES = "\n    timeout: 10s\n    retries: {attempts: 0}"
SUBSETS = "\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}"
POOL = "\n  trafficPolicy:\n    connectionPool: "

ABORT = "{abort: {httpStatus: 503, percentage: {value: 100}}}"
FOUR_WAYS = {
    "edsger": f"route: [{{destination: {{host: order, subset: v1}}}}]\n    fault: {ABORT}",
    "leslie": "route: [{destination: {host: order, subset: v3}}]",
    "radia": "route: [{destination: {host: order, subset: v1}}]\n    timeout: 0.5s",
    "frances": "route: [{destination: {host: order, subset: v4}}]",
}
"""Four customers whose orders fail, each with a different response flag: FI, UH, UT and NC."""


def new_order(customer: str) -> dict[str, Any]:
    """Return the body of a request that places an order."""
    return {"customer_id": customer, "destination": "rome", "items": [{"sku": "rooibos", "quantity": 1}]}


class RetryOnlyReads(Exercise):
    """The gateway must not retry a write whose outcome it does not know."""

    name = "retry-only-reads"
    title = "GETs for orders are tried again when they take too long; a POST never is"
    tip = "Two rules again. The second has `retries: {attempts: 0}`. And each has its `timeout`."
    answer = applied(HEAD + GETS + RETRIES + TO_V1 + ALL + NO_RETRIES + TO_V1)
    why = (
        "Reading twice is reading. A POST without a key may be an order each time, and the gateway can't know. Istio's "
        "own retries are made that way: they come only upon what can't have been carried out, such as a refused "
        "connection. To retry writes is the client's business, who knows what was meant: with an Idempotency-Key."
    )
    mistakes = (
        Wrong("lab.mesh.reset()", "GET"),
        Wrong(applied(HEAD + ALL + NO_RETRIES + TO_V1), "GET"),
        Wrong(applied(HEAD + ALL + RETRIES.replace("attempts: 2", "attempts: 1") + TO_V1), "two orders"),
        Wrong(applied(HEAD + GETS + RETRIES + TO_V1), "no rule"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(HEAD + ALL + RETRIES + TO_V1)
        return "Every request for orders is tried three times, half a second each.", as_it_is(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("A POST that takes too long is still sent three times.")
        with frozen_order(bench):
            tries = {line["attempts"] for line in bench.shop.traffic(2, ASK, at_once=2).log(timeout=15)}
        if min(tries) < 2:
            return wrong("A GET that takes too long is tried once only. It could be tried again without any harm.")
        before = newest_order(bench)
        posted = post_behind_a_lock(bench, "radia")
        made = orders_since(bench, before, "radia")
        if made > 1:
            return wrong(
                f"radia has sent one POST while the table was locked, and has {'two' if made == 2 else made} orders."
            )
        if posted.statuses != {201: 1}:
            return wrong(f"GETs are tried again. But of a POST came: {posted}. Is there no rule for it, or no time?")
        return right("GETs are tried again, and one POST, however long it takes, is one order.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


def post_behind_a_lock(bench: Bench, customer: str) -> Traffic:
    """Send one POST while writes to orders are blocked; unblock them once it is retried, or after two seconds."""
    with ThreadPoolExecutor(1) as pool:
        with locked_orders(bench):
            sent: Future[Traffic] = pool.submit(
                bench.shop.traffic, 1, "/orders", method="POST", body=new_order(customer)
            )
            waiting.wait_until(lambda: sent.done() or waiting_inserts(bench) > 1, 2)
        posted = sent.result()
    wait_until(lambda: waiting_inserts(bench) == 0, what="the order service to have written what it was asked for")
    return posted


class TakenAllTheSame(Exercise):
    """An error reports what the gateway saw, not what the service did."""

    name = "taken-all-the-same"
    title = "Four POSTs failed with four flags. Which flags may stand for an order that was taken all the same?"
    tip = (
        "Look into the order service's database: which of these customers has an order that is newer than "
        "given.before? shop.orders(customer_id=...) tells, too."
    )
    answer = """
        answer = {
            flag for customer, flag in given.flags.items()
            if any(order.order_id > given.before for order in shop.orders(customer_id=customer))
        }
    """
    why = (
        "FI, UH and NC: the gateway has sent nothing, so nothing can have been done; such a request may be sent again "
        "by anybody. UT: it was sent, and no answer came in time. The order was made a moment later. The status is 504 "
        "where nobody knows, and that is the one after which a customer must not simply click again."
    )
    mistakes = (
        Wrong("answer = set()", "database"),
        Wrong("answer = set(given.flags.values())", "never sent"),
        Wrong('answer = {"UH"}', "nobody there"),
        Wrong("answer = 504", "set of flags"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        rules = "".join(
            f"\n  - match: [{{uri: {{prefix: /orders}}, headers: {{x-who: {{exact: {who}}}}}}}]\n    {how}"
            for who, how in FOUR_WAYS.items()
        )
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(f"{RULE_HEAD}{SUBSETS}, {{name: v3, labels: {{version: v3}}}}]\n", force=True)
        bench.lab.mesh.apply(f"{HEAD}{rules}{V1}\n", force=True)
        before = newest_order(bench)
        with locked_orders(bench):
            sent = {
                who: bench.shop.traffic(1, "/orders", method="POST", body=new_order(who), headers={"x-who": who})
                for who in FOUR_WAYS
            }
        flags = {who: one.log()[0]["response_flags"] for who, one in sent.items()}
        wait_until(lambda: waiting_inserts(bench) == 0, what="the order service to have written what it was asked for")
        wait_until(lambda: orders_since(bench, before, "radia"), what="the order that nobody was told of")
        bench.lab.mesh.reset()
        told = ", ".join(f"{who} ({next(iter(one.statuses))})" for who, one in sent.items())
        return f"{told} have sent an order each, and got an error. given.flags says why.", {
            "flags": flags,
            "before": before,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = bench.given
        truth = {flag for who, flag in given.flags.items() if orders_since(bench, given.before, who)}
        named = {answer} if isinstance(answer, str) else answer
        if not isinstance(named, set | frozenset | list | tuple) or not set(named) <= set(given.flags.values()):
            return wrong("The answer is a set of flags, out of given.flags.values().")
        if set(named) == truth:
            return right(f"{', '.join(truth)}: that request was sent, and only its answer came too late.")
        if not named:
            return wrong("Look into the database: one of the four has an order, and doesn't know of it.")
        if set(named) > truth:
            return wrong("Not all of them: which of these requests were never sent to the service at all?")
        return wrong("There the gateway found nobody there, or gave the error itself. Whom did it really ask?")


class AFuse(Exercise):
    """Rejecting seven requests at once is better than letting ten wait."""

    name = "a-fuse"
    title = "While the order service hangs, at most three requests wait for it; the others are refused at once"
    tip = (
        "A DestinationRule `order` with a connectionPool: tcp.maxConnections and http.http1MaxPendingRequests. A "
        "connection carries one request at a time, and what comes meanwhile is pending. Are both full, Envoy says no. "
        "(What you apply takes the whole place of the old rule, so repeat its subsets.)"
    )
    answer = applied(f"{RULE_HEAD}{SUBSETS}]{POOL}{{tcp: {{maxConnections: 2}}, http: {{http1MaxPendingRequests: 1}}}}")
    why = (
        "Two with a connection, one in the queue. Who is refused knows it at once, can say something sensible to the "
        "customer, and the service that hangs is not buried under what it can't do anyway. The right number is what "
        "the service can do well, not what it can bear."
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
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(f"{HEAD}{ALL}\n    timeout: 15s\n    retries: {{attempts: 0}}{TO_V1}\n")
        return "A request for orders may wait fifteen seconds, and as many as like may wait.", as_it_is(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("As many as like may wait.")
        if set(bench.shop.traffic(2, ASK).statuses) != {200}:
            return wrong("Even now, while all is well, requests fail. Are the subsets v1 and v2 still in your rule?")
        refused = waiting_in_turn(bench, 10).count("UO")
        if refused == 7:
            return right("Ten came: three waited, seven were refused at once (UO).")
        return wrong(
            f"Ten came, and {10 - refused} waited. Each connection holds one, and so does each place in the queue."
        )

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


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
                sent.append(pool.submit(bench.shop.traffic, 1, ASK))
                waiting.wait_until(lambda number=number: counted() - before > number, 2, interval=0.01)  # type: ignore[misc]
        return [line["response_flags"] for one in sent for line in one.result().log()]


EXERCISES: tuple[Exercise, ...] = (
    HowManyTries(),
    ReadsMayNotWait(),
    OnlyForUs(),
    RetryOnlyReads(),
    TakenAllTheSame(),
    AFuse(),
)
