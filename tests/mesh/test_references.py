"""Validation finds errors before documents are applied: Istio's own rules, and references to missing objects."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labstack.istio.check import check, require_valid
from labstack.istio.documents import Document, load, read
from labstack.istio.errors import InvalidMesh
from labstack.istio.rules.names import is_host
from labstack.istio.rules.regexes import pattern_error
from labstack.istio.translate import translate
from tests.mesh.typos import PROBLEMS, VALID, WARNINGS, Slip, slipped
from tests.services.luck import LONG as MORE

CASE_NUMBERS = ("01", "02", "04", "05", "07", "10", "11", "14")
CASES = [
    path for path in sorted(Path(__file__).parent.glob("cases/*/input.yaml")) if path.parent.name[:2] in CASE_NUMBERS
]
ALL_CASES = sorted(Path(__file__).parent.glob("cases/*/input.yaml"))


def problems(text: str) -> list[str]:
    """Return the problems of a text."""
    return [str(problem) for problem in check(load(text)).problems]


def warnings(text: str) -> list[str]:
    """Return the warnings of a valid text."""
    checked = check(load(text))
    assert checked.problems == []
    return [str(warning) for warning in checked.warnings]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.parent.name)
def test_input_accepted_by_istiod_is_valid(case: Path) -> None:
    """Inputs that a real istiod accepted have no problems, and a warning only for a truly unreachable route."""
    checked = check(read(case, "input.yaml"))
    assert checked.problems == []
    expected = ["input.yaml:45"] if case.parent.name == "04-retries-timeout" else []
    assert [str(warning).partition(": ")[0] for warning in checked.warnings] == expected


EXCEPTIONS = {
    "47-several-virtual-services-one-host": "the route with the unknown host loses against another VirtualService",
    "57-no-namespace": "a cluster puts objects without a namespace into default; istiod's files have none",
}


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda path: path.parent.name)
def test_broken_references_match_missing_clusters_in_istiod(case: Path) -> None:
    """A destination is broken exactly if the routes of a real istiod refer to a cluster that it did not create."""
    if case.parent.name in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[case.parent.name])
    clusters = json.loads((case.parent / "clusters.json").read_text(encoding="utf-8"))
    created = set(re.findall(r'"(outbound\|[^"]*)"', json.dumps(clusters)))
    routes = (case.parent / "routes.json").read_text(encoding="utf-8")
    missing = set(re.findall(r'"(outbound\|[^"]*)"', routes)) - created
    found = [str(one) for one in check(read(case)).broken if "destination" in one.field or "mirror" in one.field]
    assert bool(found) == bool(missing), (found, missing)


def test_valid_configuration_has_no_problems_or_warnings() -> None:
    """The configuration that the slips start from has neither problems nor warnings."""
    checked = check(load(VALID))
    assert (checked.problems, checked.warnings) == ([], [])


def test_there_are_enough_slips() -> None:
    """The table has at least sixty slips, as learners make them in a workshop."""
    assert len(PROBLEMS) >= 60


@pytest.mark.parametrize("slip", PROBLEMS, ids=lambda slip: slip.new[:40])
def test_slip_is_reported_with_its_line_and_field(slip: Slip) -> None:
    """A slip is reported with its line, its field, and the wrong or intended value."""
    text, line = slipped(slip)
    found = check(load(text)).problems
    assert any(
        (problem.line, problem.field) == (line, slip.field) and slip.message in problem.message for problem in found
    ), [str(problem) for problem in found]
    with pytest.raises(InvalidMesh) as caught:
        require_valid(load(text, "shop.yaml"))
    assert f"shop.yaml:{line}: {slip.field}: " in str(caught.value)
    assert "Next step: " in str(caught.value)


@pytest.mark.parametrize("slip", WARNINGS, ids=lambda slip: slip.new[:40])
def test_unintended_configuration_causes_a_warning(slip: Slip) -> None:
    """Valid configuration that does not do what its author intends causes a warning with its line and field."""
    text, line = slipped(slip)
    checked = check(load(text))
    assert checked.problems == []
    found = [(one.line, one.field) for one in checked.warnings if slip.message in one.message]
    assert (line, slip.field) in found, [str(one) for one in checked.warnings]
    assert set(map(str, require_valid(load(text)))) == set(map(str, checked.warnings))


def split() -> tuple[list[Document], list[Document]]:
    """Return the valid configuration in two parts: the services, and the rest."""
    every = load(VALID, "lab.yaml")
    return every[:2], every[2:]


def test_references_to_objects_in_force_are_valid() -> None:
    """A file that refers to objects in force is valid together with them, and not alone."""
    services, rest = split()
    assert check(rest, services).problems == []
    assert {problem.field for problem in check(rest).problems} >= {"spec.host"}


def test_removing_a_subset_in_use_is_a_problem() -> None:
    """Removing a subset that a route in force uses is a problem on the line of that route."""
    services, rest = split()
    changed = load(VALID.split("---\n")[3].replace("  - name: v2\n    labels: {version: v2}\n", ""), "new.yaml")
    assert [document.kind for document in changed] == ["DestinationRule"]
    found = check(changed, [*services, *rest]).problems
    assert [(problem.file, problem.field) for problem in found] == [
        ("lab.yaml", "spec.http[0].route[1].destination.subset")
    ]


def test_existing_problems_do_not_block_another_file() -> None:
    """Existing problems of the configuration in force do not prevent another file from being applied."""
    services, rest = split()
    broken = load(VALID.replace("subset: v2", "subset: v9"), "lab.yaml")[4:]
    assert check(rest[:1], [*services, *rest[:2], *broken]).problems == []


def test_force_permits_only_broken_references() -> None:
    """With force, a missing host is only a warning, while a misspelt field or an invalid weight remains a problem."""
    unknown = VALID.replace("{host: order}", "{host: nowhere}")
    assert any("nowhere" in str(warning) for warning in require_valid(load(unknown), force=True))
    for old, new in (("weight: 80", "wieght: 80"), ("weight: 80", "weight: -80")):
        with pytest.raises(InvalidMesh, match="weight"):
            require_valid(load(VALID.replace(old, new)), force=True)


def test_objects_not_exported_to_the_gateway_do_not_exist() -> None:
    """A host or rule that is exported only to other namespaces does not exist for the gateway."""
    hidden = VALID.replace("  location: MESH_INTERNAL", "  exportTo: [shop]\n  location: MESH_INTERNAL")
    assert any("is exported only to `shop`, not to the gateway" in line for line in problems(hidden))
    rule = VALID.replace("  host: order\n", "  host: order\n  exportTo: [shop]\n")
    assert any("no DestinationRule defines subsets of `order`" in line for line in problems(rule))
    for seen in (".", "*", "default"):
        assert problems(VALID.replace("  host: order\n", f"  host: order\n  exportTo: ['{seen}']\n")) == []


def test_one_mistake_is_not_reported_as_many() -> None:
    """A misspelt document causes no further problems in documents that refer to it."""
    for old, new in (
        ("  subsets:", "  subset:"),
        ("kind: Gateway", "kind: Gatway"),
        ("kind: DestinationRule", "kind: Destinationrule"),
        ("  hosts: [order.default", "  host: [order.default"),
    ):
        found = problems(VALID.replace(old, new))
        assert len([line for line in found if "is missing" not in line]) == 1, found


SECOND = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order-too}
spec:
  host: order.default.svc.cluster.local
"""


def test_second_rule_for_a_host_is_a_problem_or_a_warning() -> None:
    """A second DestinationRule for a host is a problem if Istio would drop part of it, and otherwise a warning."""
    assert (
        "a trafficPolicy" in problems(f"{VALID}---\n{SECOND}  trafficPolicy: {{loadBalancer: {{simple: RANDOM}}}}\n")[0]
    )
    assert "`v1`" in problems(f"{VALID}---\n{SECOND}  subsets: [{{name: v1, labels: {{version: v1}}}}]\n")[0]
    assert "merges the two" in warnings(f"{VALID}---\n{SECOND}  subsets: [{{name: v3, labels: {{app: order}}}}]\n")[0]


def test_duplicate_names_both_lines() -> None:
    """Two documents with the same kind, namespace and name are a problem that names both lines."""
    one, two = load(VALID, "a.yaml"), load(SECOND.replace("order-too", "order"), "b.yaml")
    found = [str(problem) for problem in check([*one, *two]).problems]
    assert "b.yaml:3: metadata.name" in found[0]
    assert "a.yaml:39" in found[0]


ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: more}
spec:
  hosts: ["shop.lab.test"]
  gateways: [lab-gateway]
  http:
"""


@pytest.mark.parametrize(
    ("first", "second", "reached"),
    [
        ("", "{uri: {prefix: /a}}", False),
        ("{uri: {prefix: /}}", "{uri: {exact: /a}}", False),
        ("{uri: {regex: .*}}", "{uri: {exact: /a}}", False),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /ab}}", False),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a/b}, method: {exact: GET}}", False),
        ("{uri: {prefix: /a}, name: one}", "{name: two, uri: {prefix: /a}}", False),
        ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {prefix: /a}}", True),
        ("{uri: {prefix: /ab}}", "{uri: {prefix: /a}}", True),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /AB}, ignoreUriCase: true}", True),
        ("{uri: {prefix: /a}, headers: {x: {}}}", "{uri: {prefix: /a}, headers: {y: {}}}", True),
        ("{headers: {x: {exact: a}}}", "", True),
    ],
)
def test_unreachable_route_causes_a_warning(first: str, second: str, reached: bool) -> None:
    """A route is reported as unreachable exactly if an earlier route matches all of its requests."""
    text = f"{VALID}---\n{ROUTES}"
    for match in (first, second):
        text += f"  - route: [{{destination: {{host: order}}}}]\n    match: [{match}]\n"
    assert any("is never reached" in line for line in warnings(text)) != reached


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("^(.*?;)?(user=jason)(;.*)?$", ""),
        ("/order/[0-9]+", ""),
        (r"\pL+\p{Greek}(?i)abc(?P<n>x)(?<m>y)[[:alpha:]]\z", ""),
        ("a{2,}b{,3}{", ""),
        ("(?P<n>a)(?P<n>b)", ""),
        ("x{1000}", ""),
        ("x{1001}", "more than 1000"),
        ("(a{500}){3}", "more than 1000"),
        ("(?=a)", "a lookahead"),
        ("(?<=a)b", "a lookbehind"),
        ("(?>a)", "an atomic group"),
        (r"(a)\1", "backreferences"),
        ("a++", "possessive"),
        ("a**", "possessive"),
        ("*", "nothing before it"),
        ("(", "never closed"),
        (")", "no matching"),
        ("[a", "never closed"),
        ("[b-a]", "not a valid range"),
        (r"\Z", "does not support"),
        ("a\\", "trailing"),
        ("", "empty"),
        ("a" * 1025, "1025 bytes"),
    ],
)
def test_regular_expressions_are_rejected_as_in_re2(text: str, wrong: str) -> None:
    """A regular expression is rejected, with the reason, exactly if RE2 rejects it."""
    found = pattern_error(text)
    assert (found is None) == (wrong == "")
    assert wrong in (found or "")


TOKENS = [
    *"abz09_-^$.|()[]{}*+?\\,:=!<>PQEi ",
    *(
        "(?:",
        "(?i)",
        "(?P<n>",
        "(?<m>",
        "(?=",
        "(?!",
        "(?<=",
        "[^",
        "[a-z]",
        "\\d",
        "\\1",
        "\\12",
        "\\pL",
        "\\p{Greek}",
    ),
    *("\\x{41}", "\\z", "\\Z", "{2}", "{2,}", "{3,1000}", "{1001}", "{500}", "[[:alpha:]]", "[[:foo:]]", "*?", "++"),
    *("\\Q", "\\E", "(?-i)", "(?i-s:", "\\b", "é", "\\é", "[a-\\d]", "[\\d-z]", "(?#", "\\0", "\\8", "\\_", "\\u"),
]


@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=8).map("".join))
@settings(max_examples=250 * MORE)
def test_random_regular_expressions_are_rejected_as_in_re2(text: str) -> None:
    """The check rejects a random text exactly if the real RE2 rejects it."""
    re2 = pytest.importorskip("re2", reason="NOT TRIED: google-re2 is not installed, so RE2 itself was not asked")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 2**28
    try:
        re2.compile(text, options)
        accepted = True
    except re2.error:
        accepted = False
    assert (pattern_error(text) is None) == accepted


def test_hosts_have_the_form_that_istio_accepts() -> None:
    """A host is a DNS name; its first label may be a wildcard only where Istio accepts one."""
    assert is_host("*-a.foo.com", star=True)
    assert not is_host("*.foo.com")
    assert not is_host("a_b")


def test_error_shows_at_most_twenty_problems() -> None:
    """An error shows at most twenty problems, counts the rest, and suggests fixing the first one."""
    text = VALID + "".join(f"---\n{SECOND.replace('order-too', f'r{n}').replace('host:', 'hots:')}" for n in range(30))
    with pytest.raises(InvalidMesh) as caught:
        require_valid(load(text, "many.yaml"))
    assert len(caught.value.problems) >= 30
    assert "\n20. " in str(caught.value)
    assert "\n21. " not in str(caught.value)
    assert f"and {len(caught.value.problems) - 20} more" in str(caught.value)
    assert f"fix line {caught.value.problems[0].line} of many.yaml" in str(caught.value)


def test_thousands_of_documents_are_checked_in_seconds() -> None:
    """A valid configuration of one megabyte is checked within seconds."""
    gateway = VALID.split("---\n")[2]
    text = "---\n".join([gateway, *(copy_of(number) for number in range(2**20 // len(VALID)))])
    began = time.monotonic()
    checked = check(load(text))
    assert checked.problems == []
    assert time.monotonic() - began < 20


def copy_of(number: int) -> str:
    """Return the valid configuration without its Gateway, under unique names."""
    parts = [part for part in VALID.split("---\n") if "kind: Gateway" not in part]
    text = "---\n".join(parts)
    for name in ("order", "payment", "shop"):
        text = text.replace(f"name: {name}", f"name: {name}{number}").replace(f"host: {name}", f"host: {name}{number}")
    return text.replace("[order.", f"[order{number}.").replace("[payment.", f"[payment{number}.")


CONTROL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  http:
  - match: [{headers: {x-a: {exact: "m\\r\\nx"}}}]
    rewrite: {uri: "/r\\r\\nx", authority: "a\\r\\nx"}
    headers: {request: {set: {x-b: "h\\r\\nx"}}}
    route: [{destination: {host: order}}]
  - match: [{uri: {prefix: /b}}]
    redirect: {uri: "/u\\r\\nx", authority: "w\\r\\nx"}
  - directResponse: {status: 200, body: {string: "two\\nlines"}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order}
spec:
  host: order
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: "c\\r\\nx"}}}
"""


def test_control_characters_are_problems_with_their_place() -> None:
    """A control character in a match, rewrite, redirect, header or hash is a problem; a body may have lines."""
    found = [one for one in check(load(CONTROL)).problems if "control character" in one.message]
    values = ["m", "/r", "a", "h", "/u", "w", "c"]
    assert [one.message for one in found] == [
        rf"`{value}\r\nx` contains the control character \r; remove it" for value in values
    ]
    assert all("x" in CONTROL.splitlines()[one.line - 1] for one in found)
    warned = [one.message for one in translate(load(CONTROL)).warnings if "control character" in one.message]
    assert warned == [one.message for one in found]


@pytest.mark.parametrize(
    ("prefix", "new", "becomes"),
    [
        ("/api", "/", "//orders"),
        ("/api/", "/v2", "/v2orders"),
        ("/api", "/v2", ""),
        ("/api/", "/", ""),
        ("/", "/v2", "/v2orders"),
    ],
)
def test_a_rewrite_that_joins_a_path_badly_is_a_warning(prefix: str, new: str, becomes: str) -> None:
    """A rewrite that makes `//orders` or `/v2orders`, as in Istio, causes a warning that shows the new path."""
    route = (
        f"{{match: [{{uri: {{prefix: {prefix}}}}}], rewrite: {{uri: {new}}}, route: [{{destination: {{host: a}}}}]}}"
    )
    text = CONTROL.split("http:")[0] + f"http: [{route}]\n"
    found = [one.message for one in check(load(text)).warnings if "replaces only the prefix" in one.message]
    assert [f"becomes `{becomes}`" in message for message in found] == ([True] if becomes else [])


def test_short_hosts_are_compared_by_their_full_names() -> None:
    """A short host is served by a gateway that serves its full name, as the translator resolves it."""
    gateway = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: lab-gateway}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [SERVED]}]
---
"""
    service = CONTROL.split("spec:")[0] + "spec:\n  hosts: [order]\n  gateways: [lab-gateway]\n"
    text = gateway + service + "  http: [{directResponse: {status: 200}}]\n"
    for served, is_served in (("order.default.svc.cluster.local", True), ("order.other.svc.cluster.local", False)):
        documents = load(text.replace("SERVED", served))
        warned = [one.field for one in check(documents).warnings if "serves `order` (order.default." in one.message]
        assert warned == ([] if is_served else ["spec.hosts[0]"])
        unserved = [one for one in translate(documents).warnings if "serves a host of" in one.message]
        assert bool(unserved) is not is_served
