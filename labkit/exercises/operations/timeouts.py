"""The first exercises of notebook 08: timeouts, retries and fault injection."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    HEAD,
    PATH,
    V1,
    GatewayExercise,
    applied,
    current_rules,
    frozen_order,
    is_untouched,
)

TO_V1 = "\n    route: [{destination: {host: order, subset: v1}}]"
GETS = "\n  - match: [{uri: {prefix: /orders}, method: {exact: GET}}]"
ALL = "\n  - match: [{uri: {prefix: /orders}}]"
CHAOS = '\n  - match: [{uri: {prefix: /orders}, headers: {x-chaos: {exact: "yes"}}}]'
ANY_CHAOS = "\n  - match: [{uri: {prefix: /orders}, headers: {x-chaos: {}}}]"
THREE_TRIES = "\n    timeout: 2s\n    retries: {attempts: 2, perTryTimeout: 0.6s, retryOn: gateway-error}"


class ThreeTries(GatewayExercise):
    """The timeout applies to all attempts together."""

    name = "three-tries-in-two-seconds"
    title = "Give a GET for orders three attempts of at least half a second each, and the client an answer within 2 s"
    kind = "config"
    level = 2
    minutes = 7
    hints = (
        "Draw a line of two seconds. The first attempt starts at 0. When does the second start, and when must the "
        "third have ended?",
        "`timeout` covers all attempts together, `perTryTimeout` one of them, and `attempts` counts the retries only. "
        "An attempt that times out is a 504 to the gateway: `retryOn: gateway-error`.",
        "The rule begins:\n    - match: [{uri: {prefix: /orders}, method: {exact: GET}}]\n      timeout: 2s",
    )
    answer = applied(HEAD + GETS + TO_V1 + THREE_TRIES + V1)
    why = (
        "Three times 0.6 s, and a pause of some 25 ms before each retry, fit into 2 s. Choose the values together: "
        "otherwise one has no effect, or the last attempt is cut off and only costs the service work. Start from what "
        "the client is willing to wait, since it is the one who gives up."
    )
    mistakes = (
        Wrong(
            applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace("attempts: 2", "attempts: 3").replace("0.6", "0.4") + V1),
            "counts the retries",
        ),
        Wrong(applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace("0.6s", "1s") + V1), "2 attempts"),
        Wrong(applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace(", perTryTimeout: 0.6s", "") + V1), "1 attempt"),
        Wrong(applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace("gateway-error", "connect-failure") + V1), "1 attempt"),
        Wrong(applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace("0.6s", "0.3s") + V1), "too short"),
        Wrong(
            applied(HEAD + GETS + TO_V1 + THREE_TRIES.replace("0.6s", "1.5s").replace("2s", "9s") + V1),
            "has given up",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        return "A GET for orders gets one attempt of ten seconds.", current_rules(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("A GET for orders gets one attempt of ten seconds.")
        if set(bench.shop.traffic(2, PATH).statuses) != {200}:
            return wrong("A GET fails even without a fault. Which rule matches it, and where does it go?")
        with frozen_order(bench):
            sent = bench.shop.traffic(1, PATH)
        (line,) = sent.log()
        tries, waited = int(line["attempts"]), f"{sent.fastest:.1f} s"
        if sent.fastest > 3.5:
            return wrong(f"While order was frozen, the client waited {waited}. After two seconds it has given up.")
        if tries > 3:
            return wrong(
                f"The frozen service got {tries} attempts instead of 3: more load than allowed. `attempts` counts the "
                "retries after the first attempt."
            )
        if tries < 3:
            plural = "s" if tries > 1 else ""
            return wrong(
                f"The frozen service got {tries} attempt{plural} within {waited}. What ends one attempt before the "
                "time is over, and is that a reason to retry?"
            )
        if sent.fastest < 1.45:
            return wrong(
                f"Three attempts in {waited}: each was too short. A service that needs 0.4 s would have answered all "
                "three, and the client would have got none of the answers."
            )
        return right(f"The lab has just measured it: {tries} attempts, and the client had its answer after {waited}.")


class ReadsMayNotWait(GatewayExercise):
    """The right timeout depends on the request."""

    name = "reads-may-not-wait"
    title = "Let a GET for orders time out after half a second; all other requests for orders get ten seconds"
    kind = "config"
    level = 2
    minutes = 4
    hints = (
        (
            "Look at the section *Too slow*: a `timeout` belongs to a rule. So requests with different times "
            "need different rules."
        ),
        (
            "Use two rules, each with its own `timeout` beside its `route`; the one for {method: {exact: "
            "GET}} comes first. A rule without a timeout has no limit."
        ),
        ("The first rule begins:\n    - match: [{uri: {prefix: /orders}, method: {exact: GET}}]\n      timeout: 0.5s"),
    )
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


class OnlyForUs(GatewayExercise):
    """Fault injection in production, only for requests that ask for it."""

    name = "only-for-us"
    title = "Delay each request for orders with `x-chaos: yes` by half a second, and no other request"
    kind = "config"
    level = 2
    minutes = 5
    hints = (
        (
            "Look at the sections *Slow on purpose* here and *Chosen customers* in 07: a fault belongs to a "
            "rule, and a rule can match a header."
        ),
        (
            "Use fault: {delay: {fixedDelay: ..., percentage: {value: ...}}} beside `route`, in a rule for "
            "the header's exact value, and a second rule without a fault. A fault without a percentage never "
            "fires."
        ),
        (
            "The first rule begins:\n"
            '    - match: [{uri: {prefix: /orders}, headers: {x-chaos: {exact: "yes"}}}]\n'
            "      fault: {delay: ..."
        ),
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
