"""The first exercises of notebook 08: timeouts, retries and fault injection."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    ASK,
    HEAD,
    V1,
    applied,
    as_it_is,
    frozen_order,
    is_untouched,
    put_back,
    tried,
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
    title = "timeout: 1.4s, attempts: 5, perTryTimeout: 0.5s: how often is a frozen service asked?"
    tip = "Draw a line of 1.4 s. The first try begins at 0 and is given up at 0.5 s; the next begins then."
    answer = "answer = 3"
    why = (
        "Tries begin at 0, 0.5 and 1.0 s, and at 1.4 s the time for all of them is up: the third is cut off, and the "
        "other three that `attempts: 5` would allow never come. Write them together, or one of them is a lie."
    )
    mistakes = (
        Wrong("answer = 6", "if there were time"),
        Wrong("answer = 5", "if there were time"),
        Wrong("answer = 2", "0.4 s"),
        Wrong("answer = 1", "given up"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        with tried(bench, TRIES), frozen_order(bench):
            (line,) = bench.shop.traffic(1, ASK).log()
        if answer == line["attempts"]:
            return right(f"It was just done: {answer} tries, then {line['response_code']} ({line['response_flags']}).")
        if answer in (5, 6):
            return wrong("The first and five more: that would be 6, if there were time. `timeout` is for all together.")
        if answer == 2:
            return wrong("Two are over after 1.0 s. There are 0.4 s left: enough for one more to begin.")
        return wrong("A try is given up after 0.5 s, and the next begins. How often, until 1.4 s are over?")


class ReadsMayNotWait(Exercise):
    """The right timeout depends on the request."""

    name = "reads-may-not-wait"
    title = "A GET for orders is given up after half a second; everything else for orders has ten seconds"
    tip = "Two rules, each with a `timeout` beside its `route`. Which requests does {method: {exact: GET}} take?"
    answer = applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + "\n    timeout: 10s" + TO_V1)
    why = (
        "Who reads can ask again, and somebody looks at an hourglass meanwhile. A write that is cut off may have been "
        "carried out all the same, and nobody knows. So it gets its time, and a key (as below)."
    )
    mistakes = (
        Wrong(applied(HEAD + ALL + "\n    timeout: 0.5s" + TO_V1), "POST was cut off"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1), "no rule"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + TO_V1), "for ever"),
        Wrong(applied(HEAD + GETS + "\n    timeout: 0.5s" + TO_V1 + ALL + "\n    timeout: 3s" + TO_V1), "timeout 3s"),
        Wrong(applied(HEAD + ALL + "\n    timeout: 10s" + TO_V1 + GETS + "\n    timeout: 0.5s" + TO_V1), "GET"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.mesh.reset()
        return "Every request for orders may take ten seconds.", as_it_is(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("GETs still have ten seconds.")
        nobody = f"/orders/{uuid.uuid4()}/cancel"  # an order that does not exist, so the request has no effect
        with ThreadPoolExecutor(1) as pool:
            with frozen_order(bench):
                post = pool.submit(bench.shop.traffic, 1, nobody, method="POST")
                gets = bench.shop.traffic(3, ASK, at_once=3)
                if gets.statuses == {504: 3} and gets.fastest < 2:
                    bench.shop.traffic(2, ASK)  # one more second in which the POST can time out
            (posted,) = post.result().statuses
        if gets.statuses != {504: 3} or not 0.4 < gets.fastest < 2:
            return wrong(
                f"While order was frozen, a GET had to wait {gets.fastest:.1f} s. Which rule does it meet first, and "
                "is half a second what that says?"
            )
        if posted == 504:
            return wrong("GETs are given up in time. But a POST was cut off, too, and may have been carried out.")
        if "gateway" in bench.shop.traffic(1, nobody, method="POST").versions:
            return wrong("GETs are given up in time. But for a POST there is no rule any more.")
        rest = [r.policy for r in bench.lab.mesh.routes() if r.to.startswith("order") and "method=GET" not in r.match]
        for policy in rest:
            if not policy.startswith("timeout 10s"):
                has = policy.partition(";")[0] if policy.startswith("timeout") else "no timeout, so it waits for ever"
                return wrong(f"GETs are given up in time. But the rest shall have ten seconds, and a rule has {has}.")
        return right("GETs were given up after half a second; the POST waited, and got its answer from the service.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


class OnlyForUs(Exercise):
    """Fault injection in production, only for requests that ask for it."""

    name = "only-for-us"
    title = "Requests for orders with `x-chaos: yes` are each held up by half a second, and no others"
    tip = (
        "fault: {delay: {fixedDelay: ..., percentage: {value: ...}}} stands beside `route`, in a rule of its own. What "
        "if it says no percentage?"
    )
    answer = applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}" + TO_V1 + V1)
    why = (
        "So a tester's browser meets a slow shop, and no customer does. Envoy holds the request up before it sends it "
        "on: the service has no part in it, and its own metrics won't show a thing. The access log does: DI."
    )
    mistakes = (
        Wrong(applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s}}" + TO_V1 + V1), "percentage"),
        Wrong(
            applied(HEAD + ALL + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 100}}}" + TO_V1),
            "Everybody",
        ),
        Wrong(
            applied(HEAD + CHAOS + "\n    fault: {delay: {fixedDelay: 0.5s, percentage: {value: 30}}}" + TO_V1 + V1),
            "each",
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
        return "Nobody is held up.", as_it_is(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("Nobody is held up.")
        ours = bench.shop.traffic(20, ASK, headers={"x-chaos": "yes"}, at_once=10)
        others = [bench.shop.traffic(10, ASK, headers=headers) for headers in (None, {"x-chaos": "no"})]
        flags = ([line["response_flags"] for line in sent.log()] for sent in (*others, ours))
        *held, meant = (sum("DI" in flag for flag in of_some) for of_some in flags)
        if {status for sent in (*others, ours) for status in sent.statuses} != {200}:
            return wrong(f"Not all are answered well: {ours}; {others[0]}.")
        if held[1] and not held[0]:
            return wrong("`x-chaos: no` is held up, too. Ask for the header's value, not only whether it is there.")
        if any(held):
            return wrong("Everybody is held up. The fault belongs into a rule that asks for the header.")
        if not meant:
            return wrong("Nobody is held up, those with the header neither. A fault without a percentage never fires.")
        if meant < 20:
            return wrong(f"{meant} of 20 with the header were held up. It should be each of them.")
        if not 0.45 <= ours.fastest < 1.5:
            return wrong(f"They are held up, but not by half a second: {ours.fastest:.2f} s.")
        return right("20 of 20 with the header were held up by half a second (DI), 20 of 20 others were not.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)
