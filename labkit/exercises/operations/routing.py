"""The exercises of notebook 07."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Any

from labkit.errors import KitError
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.gateway import (
    HEAD,
    PATH,
    RULE_HEAD,
    V1,
    GatewayExercise,
    applied,
    current_rules,
    is_untouched,
    start_v2,
)
from labkit.waiting import wait_until
from labstack import waiting

BETA = '{headers: {x-beta: {exact: "yes"}}, uri: {prefix: /orders}}'
REQUESTS = 4
CUSTOMERS = [f"customer-{number}" for number in range(1, 17)]
STICKY = "\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-customer}}}"
BY_ADDRESS = STICKY.replace("httpHeaderName: x-customer", "useSourceIp: true")
TO_BOTH = """
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order}}]"""
HALVES = """
  - match: [{uri: {prefix: /orders}}]
    route:
    - {destination: {host: order, subset: v1}, weight: 50}
    - {destination: {host: order, subset: v2}, weight: 50}"""
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


class BetaTesters(GatewayExercise):
    """Only requests with the header reach the new version."""

    name = "beta-testers"
    title = "Send requests for orders with `x-beta: yes` to v2, and all others where they went before"
    kind = "config"
    level = 2
    minutes = 6
    hints = (
        ("Look at the section *Chosen customers*: how many rules are there, and which one does Envoy try first?"),
        (
            "Use two entries under `http`, the special one first. Within one entry of `match` all conditions "
            "must hold (header AND uri); several entries are alternatives (OR)."
        ),
        ('The first rule begins:\n    - match: [{headers: {x-beta: {exact: "yes"}}, uri: {prefix: /orders}}]'),
    )
    answer = applied(
        HEAD
        + f"""
  - match: [{BETA}]
    route: [{{destination: {{host: order, subset: v2}}}}]"""
        + V1
    )
    why = (
        "The special rule comes first, because Envoy uses the first match. It also matches the path: this gateway "
        "serves four services at one origin, and a rule with only a header would match their requests, too."
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
            "all other requests",
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

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "v2 is running, and every request goes to v1.", start_v2(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("No request can reach v2 yet.")
        beta = bench.shop.traffic(20, PATH, headers={"x-beta": "yes"})
        others = bench.shop.traffic(20, PATH)
        paying = bench.shop.traffic(5, "/payments?limit=1", headers={"x-beta": "yes"})
        if others.versions == {"v2": 20}:
            return wrong(
                "Every request goes to v2 now. Two entries in one `match` are alternatives: one of them is enough."
            )
        if set(others.statuses) != {200}:
            return wrong(
                "The testers get a response. But what about all other requests? None of your rules matches them."
            )
        if beta.versions == {"v1": 20}:
            return wrong("The testers get v1. Envoy uses the first rule that matches: which rule comes first for them?")
        if (beta.versions, others.versions) != ({"v2": 20}, {"v1": 20}):
            return wrong(f"With the header: {beta}. Without: {others}. This rule should not depend on chance.")
        maybe = bench.shop.traffic(20, PATH, headers={"x-beta": "maybe"})
        if maybe.versions != {"v1": 20}:
            return wrong("`x-beta: maybe` goes to v2, too. Match the header's value, not only its presence.")
        if set(paying.statuses) != {200}:
            return wrong("A tester who requests her payments gets an error: your rule matches payment's requests, too.")
        return right(
            "20 of 20 with the header went to v2, 20 of 20 without it to v1, and payment still gets its own requests."
        )


class OneCustomerOneVersion(GatewayExercise):
    """A consistent hash keeps each customer at one endpoint."""

    name = "one-customer-one-version"
    title = "Let both versions answer requests for orders, and each customer (`x-customer`) always the same version"
    kind = "config"
    level = 3
    minutes = 18
    hints = (
        "Weights choose requests, not customers. A subset chooses a group of endpoints, and the load balancer one "
        "endpoint in the group. So which group holds both versions, and which resource configures its load balancer?",
        "A VirtualService whose destination is the host without a subset, and in the DestinationRule "
        "trafficPolicy.loadBalancer.consistentHash.httpHeaderName. It replaces the old rule, so repeat the subsets.",
        "The DestinationRule ends:\n    trafficPolicy:\n      loadBalancer:\n        consistentHash:",
    )
    answer = applied(HEAD + TO_BOTH, f"{RULE_HEAD}{SUBSETS}]{STICKY}")
    why = (
        "Envoy hashes the header and looks the hash up on a ring of endpoints: the same customer, the same endpoint, "
        "without any memory. If an endpoint goes, only its customers move. The price: shares can't be chosen any more, "
        "and a customer who orders a lot stays with one endpoint. For a price that must not change, that is worth it."
    )
    mistakes = (
        Wrong(applied(HEAD + HALVES), "two prices"),
        Wrong(applied(HEAD + HALVES, f"{RULE_HEAD}{SUBSETS}]{STICKY}"), "two prices"),
        Wrong(applied(HEAD + TO_BOTH), "two prices"),
        Wrong(applied(f"{RULE_HEAD}{SUBSETS}]{STICKY}"), "v2 answers no customer"),
        Wrong(
            applied(HEAD + TO_BOTH, f"{RULE_HEAD}{SUBSETS}]{BY_ADDRESS}"),
            "one address",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "v2 is running, and every request goes to v1.", start_v2(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("Every customer meets v1.")
        met: Counter[str] = Counter()
        for customer in CUSTOMERS:
            sent = bench.shop.traffic(REQUESTS, PATH, headers={"x-customer": customer})
            if set(sent.statuses) != {200}:
                return wrong(f"{customer}'s requests fail: {sent}. Does every destination exist?")
            if len(sent.versions) > 1:
                return wrong(
                    f"{customer} has met both versions ({sent.versions}) within a second, and has seen two prices for "
                    "one thing. What makes Envoy choose the same endpoint again?"
                )
            met.update(sent.versions)
        if "v2" not in met:
            return wrong(
                "Each customer meets one version, but it is v1 for all, and v2 answers no customer. Either the route "
                "names only v1, or all customers have the same hash, such as that of their one address."
            )
        if "v1" not in met:
            return wrong(
                "All customers meet v2. They come from one address, like all users behind one proxy, so the address "
                "does not tell them apart."
            )
        customers = ", ".join(f"{number // REQUESTS} meet {version}" for version, number in sorted(met.items()))
        return right(f"Of {len(CUSTOMERS)} customers {customers}, each in all requests.")


class WhyFiveHundredThree(Exercise):
    """One status has different reasons; the response flag distinguishes them."""

    name = "one-status-many-reasons"
    title = "Twenty-two requests were sent. Which response flags do the failed ones have, and how many of each?"
    kind = "diagnosis"
    level = 2
    minutes = 4
    hints = (
        (
            "Statuses are what a client sees. The gateway's access log knows why: its column `flag`. "
            "given.mark is a part of the paths of these 22 requests."
        ),
        (
            "Use look.mesh.log(200), a table; select the lines with `log.path.str.contains(given.mark)`, "
            "leave out the flag '-', and count with value_counts()."
        ),
        ("It begins:\n    log = look.mesh.log(200)\n    mine = log[log.path.str.contains(given.mark)]"),
    )
    answer = """
        log = look.mesh.log(200)
        mine = log[log.path.str.contains(given.mark)]
        answer = mine[mine.flag != "-"].flag.value_counts().to_dict()
    """
    why = (
        "UH: the subset exists, but has no running instance: start one. NC: the subset does not exist: fix the YAML. "
        "NR: no rule matches: the path is wrong, or the rule. A client sees 503, 503 and 404, and can't distinguish "
        "the reasons. Check the gateway's log first when a service never received a request."
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
        return "22 requests were sent under rules that are removed again. Their paths contain given.mark.", {
            "mark": mark
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, Mapping):
            return wrong("The answer is a dict: flag → count, such as {'UT': 1}.")
        log = [entry for entry in bench.lab.mesh.access_log(3000) if bench.given.mark in entry["path"]]
        truth = Counter(entry["response_flags"] for entry in log)
        del truth["-"]
        given = {str(flag): int(number) for flag, number in answer.items() if flag != "-"}
        if given == truth:
            return right(f"{len(truth)} reasons behind {truth.total()} failures.")
        if any(flag.isdigit() for flag in given):
            return wrong("These are statuses: what the client saw. The column flag shows the reason.")
        if given == {flag: truth[flag] for flag in ("UH", "NC")}:
            return wrong("Two requests got 404. Did a service return it? Look at their flag.")
        if sum(given.values()) == truth.total():
            return wrong("The total is correct, but 503 had two different reasons here: look at each flag.")
        return wrong("Count the lines whose path contains given.mark, by flag, without the successful ones.")


class MendTheRules(GatewayExercise):
    """A canary route to a subset that does not exist."""

    name = "mend-the-rules"
    title = "A quarter of the requests fail. Find out why, and send that quarter to v2"
    kind = "config"
    level = 2
    minutes = 5
    hints = (
        (
            "shop.traffic(40).flags() says why they fail. Compare what the VirtualService names with what the "
            "DestinationRule defines: print(lab.mesh.show())."
        ),
        (
            "Apply the VirtualService again with the subset that you mean (or the DestinationRule with one "
            "more subset, if the name was meant so). The weights stay."
        ),
        ("The last destination begins:\n    - {destination: {host: order, subset: v2}, weight: ..."),
    )
    answer = applied(HEAD + BROKEN.replace("canary", "v2"))
    why = (
        "NC: the route names a cluster that does not exist, because no subset is called `canary`. Envoy accepts such "
        "a route, and returns 503 for its share. `apply` would have rejected it, but it was applied with force. A "
        "subset `canary` with the labels {version: v2} in the DestinationRule would work as well: you choose the "
        "name; the labels select the endpoints."
    )
    mistakes = (
        Wrong("lab.mesh.reset()", "v2 gets none"),
        Wrong(
            applied(f"{RULE_HEAD}{SUBSETS}, {{name: canary, labels: {{version: canary}}}}]", force=True), "no endpoint"
        ),
        Wrong(applied(HEAD + BROKEN.replace("canary", "v2").replace("75", "50").replace("25", "50")), "quarter"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        facts = start_v2(bench)
        bench.lab.mesh.apply(f"{HEAD}{BROKEN}\n", force=True)
        return "A canary was released, with force=True.", {**facts, **current_rules(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        sent = bench.shop.traffic(400, PATH, at_once=4)
        failed = sent.versions.get("gateway", 0)
        if is_untouched(bench):
            return untouched(f"{'About a quarter' if failed else 'None'} of 400 requests got 503 from the gateway.")
        if failed:
            flags = set(sent.flags().flag) - {"-"}
            because = (
                "the subset has no endpoint: which instances match its labels?"
                if flags == {"UH"}
                else f"the flag is {flags}"
            )
            return wrong(f"Some requests still fail: {because}")
        if "v2" not in sent.versions:
            return wrong("No request fails any more, but v2 gets none. That is a fix, too, but not the requested one.")
        if not sent.share("v2", 0.25):
            return wrong(f"No request fails. But v2 should get a quarter: {sent.share('v2', 0.25)}.")
        return right(f"No request fails, and {sent.share('v2', 0.25)}.")


class MirrorOnlyReads(GatewayExercise):
    """A mirrored write is a second write."""

    name = "mirror-only-reads"
    title = "Mirror every GET for orders to v2, and nothing else; v1 answers all requests"
    kind = "config"
    level = 2
    minutes = 7
    hints = (
        (
            "Look at the section *Copies only*: `mirror` stands beside `route` in a rule. Which requests may "
            "a rule with it match?"
        ),
        (
            "Use two rules: the first matches the uri and the method GET, and has the mirror; the second "
            "matches the uri alone, and has none."
        ),
        ("The first rule begins:\n    - match: [{uri: {prefix: /orders}, method: {exact: GET}}]"),
    )
    answer = applied(HEAD + READS + V1)
    why = (
        "Reading twice costs time, writing twice creates two orders: both versions use one database. To mirror "
        "writes, give the copy its own database, and make sure that it publishes nothing."
    )
    mistakes = (
        Wrong(
            applied(HEAD + READS.replace(", method: {exact: GET}", "")),
            "two orders",
        ),
        Wrong(applied(HEAD + READS), "POST"),
        Wrong(applied(HEAD + READS + "\n    mirrorPercentage: {value: 40}" + V1), "every"),
        Wrong(
            applied(HEAD + HALVES),
            "answers customers",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "v2 is running, and receives no requests.", start_v2(bench)

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if is_untouched(bench):
            return untouched("v2 receives no requests yet.")
        before, posts = received_by_v2(bench, "GET"), received_by_v2(bench, "POST")
        sent = bench.shop.traffic(60, PATH)
        if sent.versions != {"v1": 60}:
            return wrong(f"v2 answers customers now, but it should only receive copies: {sent}.")
        if not waiting.poll_until(lambda: received_by_v2(bench, "GET") - before >= 60, 4):
            return wrong(
                f"Of 60 GETs v2 has received {received_by_v2(bench, 'GET') - before}. It should receive every one."
            )
        try:
            bench.shop.place_order("grace", "vienna", {"rooibos": 1})
        except KitError:
            return wrong("Every GET is mirrored. But a POST gets no response any more: none of your rules matches it.")
        seen = received_by_v2(bench, "GET")
        # This GET follows the POST. Once v2 has its copy, any copy of the POST is there, or arrives within a second.
        bench.shop.traffic(1, PATH)
        wait_until(lambda: received_by_v2(bench, "GET") > seen, 10, what="the last GET to be mirrored")
        if waiting.poll_until(lambda: received_by_v2(bench, "POST") > posts, 1):
            return wrong("One click has just created two orders: v2 executed the copy of the POST.")
        return right("v2 received 60 of 60 GETs, answered no request, and did not receive the order.")


def received_by_v2(bench: Bench, method: str) -> int:
    """Return the number of requests that v2 has counted."""
    return bench.look.metrics.value("order-v2", "http_requests_total", method=method, route="/orders")


EXERCISES: tuple[Exercise, ...] = (
    BetaTesters(),
    OneCustomerOneVersion(),
    WhyFiveHundredThree(),
    MendTheRules(),
    MirrorOnlyReads(),
)
