"""The exercises of notebook 07."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Any

from labkit.errors import KitError
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    ASK,
    HEAD,
    RULE_HEAD,
    V1,
    applied,
    as_it_is,
    begin_with_v2,
    is_untouched,
    put_back,
)
from labkit.waiting import wait_until
from labstack import waiting

BETA = '{headers: {x-beta: {exact: "yes"}}, uri: {prefix: /orders}}'
BROKEN = """
  - match: [{uri: {prefix: /orders}}]
    route:
    - {destination: {host: order, subset: v1}, weight: 75}
    - {destination: {host: order, subset: canary}, weight: 25}"""
SUBSETS = "\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}"
FLAGGED = """
  - match: [{headers: {x-case: {exact: "a"}}, uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v3}}]
  - match: [{headers: {x-case: {exact: "b"}}, uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v4}}]"""
READS = """
  - match: [{uri: {prefix: /orders}, method: {exact: GET}}]
    route: [{destination: {host: order, subset: v1}}]
    mirror: {host: order, subset: v2}"""


class OneAndThree(Exercise):
    """A weight is a part of the sum of all weights, not a percentage."""

    name = "one-and-three"
    title = "v1 has the weight 1 and v2 the weight 3. How many per cent of the requests does v2 get?"
    tip = "A weight is a part of the sum of all weights. What is the sum here?"
    answer = "answer = 75"
    why = (
        "Three parts of four. Weights that add up to 100 read well, and nothing more: 75 and 25, 3 and 1, 750 and 250 "
        "are the same rule. And a weight of 0 beside others means: no request at all."
    )
    mistakes = (
        Wrong("answer = 3", "no percentage"),
        Wrong("answer = 33", "three parts"),
        Wrong("answer = 25", "v1's"),
        Wrong('answer = "75 %"', "number"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        facts = begin_with_v2(bench)
        parts = "".join(
            f"\n    - {{destination: {{host: order, subset: v{n}}}, weight: {w}}}" for n, w in ((1, 1), (2, 3))
        )
        bench.lab.mesh.apply(f"{HEAD}\n  - match: [{{uri: {{prefix: /orders}}}}]\n    route:{parts}\n")
        return 'Weights 1 and 3 are in force: print(lab.mesh.show("VirtualService/order")) shows them.', facts

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return wrong("The answer is a number, of per cent.")
        measured = bench.shop.traffic(400, ASK, at_once=4)
        if 0 <= answer <= 100 and measured.share("v2", answer / 100):
            if abs(answer - 75) < 0.5:
                return right(f"It was just measured: {measured.share('v2', 0.75)}.")
            return wrong("400 requests don't tell your number from the right one. Which part of all weights is v2's?")
        if answer == 25:
            return wrong("That is v1's share.")
        if answer == 3:
            return wrong("A weight is no percentage: it is a part of the sum of all weights.")
        return wrong("Out of four requests v1 gets one part, v2 three parts. How many per cent is that?")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


class BetaTesters(Exercise):
    """Only requests with the header reach the new version."""

    name = "beta-testers"
    title = "Requests for orders that carry `x-beta: yes` go to v2, all others where they went before"
    tip = (
        "Two rules. Envoy takes the first that matches. Within one entry of `match` everything must be so (uri AND "
        "header); several entries are alternatives (OR)."
    )
    answer = applied(
        HEAD
        + f"""
  - match: [{BETA}]
    route: [{{destination: {{host: order, subset: v2}}}}]"""
        + V1
    )
    why = (
        "The special rule comes first, since the first that matches counts, and it names the path, too: this gateway "
        "serves four services at one origin, and a rule that asks only for a header takes their requests as well."
    )
    mistakes = (
        Wrong(
            applied(f"{HEAD}{V1}\n  - match: [{BETA}]\n    route: [{{destination: {{host: order, subset: v2}}}}]"),
            "the first rule",
        ),
        Wrong(
            applied(
                HEAD
                + """
  - match: [{headers: {x-beta: {exact: "yes"}}}, {uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v2}}]"""
            ),
            "alternatives",
        ),
        Wrong(
            applied(
                HEAD
                + """
  - match: [{headers: {x-beta: {}}, uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v2}}]"""
                + V1
            ),
            "value",
        ),
        Wrong(
            applied(f"{HEAD}\n  - match: [{BETA}]\n    route: [{{destination: {{host: order, subset: v2}}}}]"),
            "all the others",
        ),
        Wrong(
            applied(
                HEAD
                + """
  - match: [{headers: {x-beta: {exact: "yes"}}}]
    route: [{destination: {host: order, subset: v2}}]"""
                + V1
            ),
            "payment",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "v2 runs, and every request goes to v1.", begin_with_v2(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("No request can reach v2 yet.")
        beta = bench.shop.traffic(20, ASK, headers={"x-beta": "yes"})
        others = bench.shop.traffic(20, ASK)
        paying = bench.shop.traffic(5, "/payments?limit=1", headers={"x-beta": "yes"})
        if others.versions == {"v2": 20}:
            return wrong("Everybody gets v2 now. Two entries in one `match` are alternatives: either will do.")
        if set(others.statuses) != {200}:
            return wrong("The testers are served. But what of all the others? No rule of yours matches them.")
        if beta.versions == {"v1": 20}:
            return wrong("The testers get v1. Envoy takes the first rule that matches: which one do they meet first?")
        if (beta.versions, others.versions) != ({"v2": 20}, {"v1": 20}):
            return wrong(f"With the header: {beta}. Without: {others}. Chance has no part in this one.")
        maybe = bench.shop.traffic(20, ASK, headers={"x-beta": "maybe"})
        if maybe.versions != {"v1": 20}:
            return wrong("`x-beta: maybe` gets v2, too. Ask for the header's value, not only whether it is there.")
        if set(paying.statuses) != {200}:
            return wrong("A tester who asks for her payments gets an error: your rule takes payment's requests, too.")
        return right("20 of 20 with the header got v2, 20 of 20 without it v1, and payment has its own requests.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


class WhyFiveHundredThree(Exercise):
    """One status has different reasons; the response flag distinguishes them."""

    name = "one-status-many-reasons"
    title = "Twenty-two requests were sent. Which response flags do the failed ones have, and how many each?"
    tip = (
        "`log = look.gateway_log(200)` is a table. `log[log.path.str.contains(given.mark)]` are the requests in "
        "question; a request in which nothing failed has the flag '-'."
    )
    answer = """
        log = look.gateway_log(200)
        mine = log[log.path.str.contains(given.mark)]
        answer = mine[mine.flag != "-"].flag.value_counts().to_dict()
    """
    why = (
        "UH: there is such a subset, and nobody runs there: start it. NC: there is no such subset: mend the YAML. NR: "
        "no rule matches: the path is wrong, or the rule. A client sees 503, 503 and 404, and knows nothing of all "
        "that. The gateway's log is where to look first when a service says that it never got the request."
    )
    mistakes = (
        Wrong('answer = {"503": 8, "404": 2}', "statuses"),
        Wrong('answer = {"UH": 8, "NR": 2}', "two different reasons"),
        Wrong('answer = {"UH": 5, "NC": 3}', "404"),
        Wrong('answer = "UH"', "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        mark = f"who-{secrets.token_hex(4)}"
        bench.lab.mesh.reset()
        bench.lab.mesh.apply(f"{RULE_HEAD}{SUBSETS}, {{name: v3, labels: {{version: v3}}}}]\n", force=True)
        bench.lab.mesh.apply(f"{HEAD}{FLAGGED}{V1}\n", force=True)
        sent = [
            bench.shop.traffic(times, f"{path}?customer_id={mark}", headers=headers)
            for times, path, headers in (
                (12, "/orders", {}),
                (5, "/orders", {"x-case": "a"}),
                (3, "/orders", {"x-case": "b"}),
                (2, "/order", {}),
            )
        ]
        for one in sent:
            one.log()
        bench.lab.mesh.reset()
        return "22 requests were sent under rules that are gone again. Their paths contain given.mark.", {"mark": mark}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, Mapping):
            return wrong("The answer is a dict: flag → how many, such as {'UT': 1}.")
        log = [entry for entry in bench.lab.mesh.access_log(3000) if bench.given.mark in entry["path"]]
        truth = Counter(entry["response_flags"] for entry in log)
        del truth["-"]
        given = {str(flag): int(number) for flag, number in answer.items() if flag != "-"}
        if given == truth:
            return right(f"{len(truth)} reasons behind {truth.total()} failures.")
        if any(flag.isdigit() for flag in given):
            return wrong("These are statuses: what the client saw. Why, is said in the column flag.")
        if given == {flag: truth[flag] for flag in ("UH", "NC")}:
            return wrong("Two requests got 404. Did a service say so? Their flag tells.")
        if sum(given.values()) == truth.total():
            return wrong("All are counted, but 503 had two different reasons here: look at the flags one by one.")
        return wrong("Count the lines whose path contains given.mark, by their flags, without those that went well.")


class MendTheRules(Exercise):
    """A canary route to a subset that does not exist."""

    name = "mend-the-rules"
    title = "A quarter of the requests fails. Find out why, and let v2 have that quarter"
    tip = (
        "shop.traffic(40).flags() says what is wrong. Which subsets are there? lab.mesh.show('DestinationRule/order'). "
        "Mend the VirtualService (or the DestinationRule, if the name is what was meant)."
    )
    answer = applied(HEAD + BROKEN.replace("canary", "v2"))
    why = (
        "NC: the route names a cluster that doesn't exist, since no subset is called `canary`. Envoy takes such a "
        "route, and answers 503 for its share. `apply` had refused it; somebody used force. A subset `canary` with the "
        "labels {version: v2} in the DestinationRule would be as good: the name is yours, the labels find the "
        "endpoints."
    )
    mistakes = (
        Wrong("lab.mesh.reset()", "nobody gets v2"),
        Wrong(
            applied(f"{RULE_HEAD}{SUBSETS}, {{name: canary, labels: {{version: canary}}}}]", force=True), "no endpoint"
        ),
        Wrong(applied(HEAD + BROKEN.replace("canary", "v2").replace("75", "50").replace("25", "50")), "quarter"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        facts = begin_with_v2(bench)
        bench.lab.mesh.apply(f"{HEAD}{BROKEN}\n", force=True)
        return "Somebody has let a canary fly, with force=True.", {**facts, **as_it_is(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        sent = bench.shop.traffic(400, ASK, at_once=4)
        failed = sent.versions.get("gateway", 0)
        if is_untouched(bench):
            return untouched(f"{'About a quarter' if failed else 'None'} of 400 requests got 503 from the gateway.")
        if failed:
            flags = set(sent.flags().flag) - {"-"}
            because = (
                "the subset has no endpoint: whom do its labels fit?" if flags == {"UH"} else f"the flag is {flags}"
            )
            return wrong(f"Some requests still fail: {because}")
        if "v2" not in sent.versions:
            return wrong(
                "No request fails any more, and nobody gets v2. That is a mend, too, but not the one asked for."
            )
        if not sent.share("v2", 0.25):
            return wrong(f"No request fails. But v2 shall have a quarter: {sent.share('v2', 0.25)}.")
        return right(f"No request fails, and {sent.share('v2', 0.25)}.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


class MirrorOnlyReads(Exercise):
    """A mirrored write is a second write."""

    name = "mirror-only-reads"
    title = "v2 hears a copy of every GET for orders, and of nothing else; v1 answers everybody"
    tip = "Two rules again: one for {uri: ..., method: {exact: GET}} with a mirror, one for all the rest without."
    answer = applied(HEAD + READS + V1)
    why = (
        "Reading twice costs time, writing twice makes two orders: both versions work on one database. Whoever wants "
        "to mirror writes gives the copy a database of its own, and makes sure that nothing it says gets out."
    )
    mistakes = (
        Wrong(
            applied(HEAD + READS.replace(", method: {exact: GET}", "")),
            "two orders",
        ),
        Wrong(applied(HEAD + READS), "POST"),
        Wrong(applied(HEAD + READS + "\n    mirrorPercentage: {value: 40}" + V1), "every"),
        Wrong(
            applied(
                HEAD
                + """
  - match: [{uri: {prefix: /orders}}]
    route:
    - {destination: {host: order, subset: v1}, weight: 50}
    - {destination: {host: order, subset: v2}, weight: 50}"""
            ),
            "answers customers",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "v2 runs, and hears nothing.", begin_with_v2(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("v2 hears nothing yet.")
        before, posts = heard_by_v2(bench, "GET"), heard_by_v2(bench, "POST")
        sent = bench.shop.traffic(60, ASK)
        if sent.versions != {"v1": 60}:
            return wrong(f"v2 answers customers now, and should only listen: {sent}.")
        if not waiting.wait_until(lambda: heard_by_v2(bench, "GET") - before >= 60, 4):
            return wrong(f"Of 60 GETs v2 has heard {heard_by_v2(bench, 'GET') - before}. It should hear every one.")
        try:
            bench.shop.place_order("grace", "vienna", {"rooibos": 1})
        except KitError:
            return wrong("Every GET is mirrored. But a POST gets an answer no more: no rule of yours matches it.")
        seen = heard_by_v2(bench, "GET")
        bench.shop.traffic(1, ASK)  # follows the order: once v2 has it, v2 also has the order's copy, if there is one
        wait_until(lambda: heard_by_v2(bench, "GET") > seen, 10, what="the last GET to be mirrored")
        if waiting.wait_until(lambda: heard_by_v2(bench, "POST") > posts, 1):
            return wrong("One click has just made two orders: v2 has carried out the copy of the POST.")
        return right("v2 has heard 60 of 60 GETs, answered nobody, and not heard the order.")

    def cleanup(self, bench: Bench) -> str:
        return put_back(bench)


def heard_by_v2(bench: Bench, method: str) -> int:
    """Return the number of requests that v2 has counted."""
    return bench.look.metric("order-v2", "http_requests_total", method=method, route="/orders")


EXERCISES: tuple[Exercise, ...] = (
    OneAndThree(),
    BetaTesters(),
    WhyFiveHundredThree(),
    MendTheRules(),
    MirrorOnlyReads(),
)
