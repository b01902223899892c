"""The first exercises of notebook 08: timeouts, retries and fault injection."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    HEAD,
    PATH,
    V1,
    applied,
    applied_temporarily,
    current_rules,
    frozen_order,
    is_untouched,
    restore_mesh,
)

TO_V1 = "\n    route: [{destination: {host: order, subset: v1}}]"
GETS = "\n  - match: [{uri: {prefix: /orders}, method: {exact: GET}}]"
ALL = "\n  - match: [{uri: {prefix: /orders}}]"
CHAOS = '\n  - match: [{uri: {prefix: /orders}, headers: {x-chaos: {exact: "yes"}}}]'
ANY_CHAOS = "\n  - match: [{uri: {prefix: /orders}, headers: {x-chaos: {}}}]"
RETRIES = "\n    retries: {attempts: 5, perTryTimeout: 0.5s, retryOn: gateway-error}\n"
TRIES = f"{HEAD}{ALL}{TO_V1}\n    timeout: 1.4s{RETRIES}"


class HowManyTries(Exercise):
    """The timeout applies to all attempts together."""

    name = "how-many-tries"
    title = "timeout: 1.4s, attempts: 5, perTryTimeout: 0.5s: how many attempts does a frozen service get?"
    tip = "Draw a line of 1.4 s. The first attempt starts at 0 and times out at 0.5 s; then the next one starts."
    answer = "answer = 3"
    why = (
        "Attempts start at 0, 0.5 and 1.0 s, and at 1.4 s the total time is over: the third attempt is cut off, and "
        "the other three that `attempts: 5` would allow never start. Choose both values together; otherwise one of "
        "them has no effect."
    )
    mistakes = (
        Wrong("answer = 6", "if there were time"),
        Wrong("answer = 5", "if there were time"),
        Wrong("answer = 2", "0.4 s"),
        Wrong("answer = 1", "times out"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        with applied_temporarily(bench, TRIES), frozen_order(bench):
            (line,) = bench.shop.traffic(1, PATH).log()
        if answer == line["attempts"]:
            return right(
                f"The lab has just measured it: {answer} attempts, then {line['response_code']} "
                f"({line['response_flags']})."
            )
        if answer in (5, 6):
            return wrong(
                "The first attempt and five more would be 6, if there were time. `timeout` covers all of them together."
            )
        if answer == 2:
            return wrong("Two attempts end after 1.0 s. There are 0.4 s left: enough for one more to start.")
        return wrong(
            "An attempt times out after 0.5 s, and the next one starts. How often does this happen within 1.4 s?"
        )


class ReadsMayNotWait(Exercise):
    """The right timeout depends on the request."""

    name = "reads-may-not-wait"
    title = "Let a GET for orders time out after half a second; all other requests for orders get ten seconds"
    tip = "Two rules, each with a `timeout` beside its `route`. Which requests does {method: {exact: GET}} match?"
    answer = applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + "\n    timeout: 10s" + TO_V1)
    why = (
        "A client can repeat a read, and a customer watches a spinner meanwhile. A write that is cut off may have "
        "been executed, and the client can't know. So give it enough time, and a key (as below)."
    )
    mistakes = (
        Wrong(applied(HEAD + ALL + "\n    timeout: 0.5s" + TO_V1), "POST was cut off"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1), "no rule"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + TO_V1), "no limit"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + "\n    timeout: 3s" + TO_V1), "timeout 3s"),
        Wrong(applied(HEAD + ALL + "\n    timeout: 10s" + TO_V1 + GETS + "\n    timeout: 0.5s" + TO_V1), "GET"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        return "Every request for orders may take ten seconds.", current_rules(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("GETs still have ten seconds.")
        path = f"/orders/{uuid.uuid4()}/cancel"  # an order that does not exist, so the request has no effect
        with ThreadPoolExecutor(1) as pool:
            with frozen_order(bench):
                post = pool.submit(bench.shop.traffic, 1, path, method="POST")
                gets = bench.shop.traffic(3, PATH, at_once=3)
                if gets.statuses == {504: 3} and gets.fastest < 2:
                    bench.shop.traffic(2, PATH)  # one more second in which the POST can time out
            (posted,) = post.result().statuses
        if gets.statuses != {504: 3} or not 0.4 < gets.fastest < 2:
            return wrong(
                f"While order was frozen, a GET had to wait {gets.fastest:.1f} s. Which rule matches it first, and "
                "does that rule say half a second?"
            )
        if posted == 504:
            return wrong("GETs time out as they should. But a POST was cut off, too, and may have been executed.")
        if "gateway" in bench.shop.traffic(1, path, method="POST").versions:
            return wrong("GETs time out as they should. But there is no rule for a POST any more.")
        rest = [r.policy for r in bench.lab.mesh.routes() if r.to.startswith("order") and "method=GET" not in r.match]
        for policy in rest:
            if not policy.startswith("timeout 10s"):
                has = policy.partition(";")[0] if policy.startswith("timeout") else "no timeout, so there is no limit"
                return wrong(
                    "GETs time out as they should. But the other requests should get ten seconds, and one rule "
                    f"has {has}."
                )
        return right("GETs timed out after half a second; the POST waited, and got its response from the service.")

    def cleanup(self, bench: Bench) -> str:
        return restore_mesh(bench)


class OnlyForUs(Exercise):
    """Fault injection in production, only for requests that ask for it."""

    name = "only-for-us"
    title = "Delay each request for orders with `x-chaos: yes` by half a second, and no other request"
    tip = (
        "fault: {delay: {fixedDelay: ..., percentage: {value: ...}}} stands beside `route`, in its own rule. What "
        "happens without a percentage?"
    )
    answer = applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}" + TO_V1 + V1)
    why = (
        "A tester's browser gets a slow shop, and no customer does. Envoy delays the request before it forwards it: "
        "the service is not involved, and its own metrics show no delay. The access log does: DI."
    )
    mistakes = (
        Wrong(applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s}}" + TO_V1 + V1), "percentage"),
        Wrong(
            applied(HEAD + ALL + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}" + TO_V1),
            "All requests",
        ),
        Wrong(
            applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 30}}}" + TO_V1 + V1),
            "every one",
        ),
        Wrong(
            applied(
                HEAD + ANY_CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}" + TO_V1 + V1
            ),
            "value",
        ),
        Wrong(
            applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}" + TO_V1 + V1),
            "not by half a second",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        return "No request is delayed.", current_rules(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("No request is delayed.")
        ours = bench.shop.traffic(20, PATH, headers={"x-chaos": "yes"}, at_once=10)
        others = [bench.shop.traffic(10, PATH, headers=headers) for headers in (None, {"x-chaos": "no"})]
        flags = ([line["response_flags"] for line in sent.log()] for sent in (*others, ours))
        *held, meant = (sum("DI" in flag for flag in of_some) for of_some in flags)
        if {status for sent in (*others, ours) for status in sent.statuses} != {200}:
            return wrong(f"Some requests fail: {ours}; {others[0]}.")
        if held[1] and not held[0]:
            return wrong("`x-chaos: no` is delayed, too. Match the header's value, not only its presence.")
        if any(held):
            return wrong("All requests are delayed. The fault belongs in a rule that matches the header.")
        if not meant:
            return wrong(
                "No request is delayed, not even those with the header. A fault without a percentage never fires."
            )
        if meant < 20:
            return wrong(f"{meant} of 20 with the header were delayed. It should be every one.")
        if not 0.45 <= ours.fastest < 1.5:
            return wrong(f"They are delayed, but not by half a second: {ours.fastest:.2f} s.")
        return right("20 of 20 with the header were delayed by half a second (DI), 20 of 20 others were not.")

    def cleanup(self, bench: Bench) -> str:
        return restore_mesh(bench)
