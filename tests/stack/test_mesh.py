"""The gateway from outside: it routes requests as the Istio resources say, with either control plane."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from labstack.backends.components import ControlPlane
from labstack.config.paths import LabPaths
from labstack.errors import LabError, NotRunning
from labstack.gateway.store import ISTIO
from labstack.install import find_program
from labstack.istio.errors import InvalidMesh, InvalidYaml, Unsupported
from labstack.waiting import wait_until
from tests.stack.labs import Grounds
from tests.stack.one_order import ended, place
from tests.stack.traffic import ask, asking, plausible
from tests.suite.chance import LONG

IN_CONTAINERS = os.environ.get("LAB_MODE") == "containers"


@pytest.fixture(scope="module", params=["translator", pytest.param("istiod", marks=pytest.mark.long)])
def _steered(request: pytest.FixtureRequest) -> Iterator[Grounds]:
    if request.param == "istiod" and not find_program("istiod", LabPaths.of_user()):
        pytest.skip("NOT TRIED: there is no istiod on this machine; `lab install istiod` gets it")
    grounds = Grounds(f"mesh-{request.param}", environment={"LAB_CONTROL_PLANE": request.param})
    try:
        grounds.must("up")
        yield grounds
    finally:
        grounds.close()


@pytest.fixture
def steered(_steered: Grounds) -> Grounds:
    """Return a running lab for each control plane, at the start of the course."""
    _steered.begin_anew()
    return _steered


def routed(rules: str, name: str = "order") -> str:
    """Return a VirtualService of the lab's gateway with the given rules in its `http` list."""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  http:
{rules}
"""


def split(v1: int, v2: int) -> str:
    return routed(f"""
  - name: order
    match: [{{uri: {{prefix: /orders}}}}]
    route:
    - {{destination: {{host: order, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: order, subset: v2}}, weight: {v2}}}""")


def test_status_says_what_steers(steered: Grounds) -> None:
    """`lab status` reports the control plane and the gateway's address, as text and as JSON, and `lab.mesh` agrees."""
    named = {"istiod": "istiod 1.29.1", "translator": "the lab's translator"}
    status = steered.status()
    steers = status["components"]["envoy"]["control_plane"]
    assert f"configured by {named[steers]}" in " ".join(steered.must("status").split())
    assert steered.lab.mesh.control_plane == named[steers]
    assert status["endpoints"]["gateway"] == steered.lab.endpoints.gateway
    assert ("istiod" in status["components"]) == (steers == "istiod")


def test_one_origin_for_all_four(steered: Grounds) -> None:
    """The gateway serves every path of the four APIs from one origin, and no other path of the services."""
    origin = steered.lab.endpoints.gateway
    for path in ("/orders", "/inventory/products", "/payments", "/shipping/shipments"):
        answer = httpx.get(origin + path)
        assert answer.status_code == 200, (path, answer.text)
        assert "items" in answer.json()
    for path in ("/", "/healthz/ready", "/metrics", "/openapi.json", "/docs", "/manage/consumer"):
        assert httpx.get(origin + path).status_code == 404
    order_id = place(steered.lab)
    assert ended(steered.lab, order_id) == ("COMPLETED", None)
    refused = httpx.post(f"{origin}/orders", json={"customer_id": "ada"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")


def test_ids_go_all_the_way(steered: Grounds) -> None:
    """The response and the access log carry the request's ID, and the resulting event continues the trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "sencha", "quantity": 1}]}
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = httpx.post(f"{steered.lab.endpoints.gateway}/orders", json=body, headers=headers)
    request_id = answer.headers["x-request-id"]

    def logged() -> dict[str, object] | None:
        found = [one for one in steered.lab.mesh.access_log() if one["request_id"] == request_id]
        return found[0] if found else None

    entry = wait_until(logged, 5)
    assert isinstance(entry, dict)
    assert (entry["method"], entry["response_code"], entry["service_version"]) == ("POST", 201, "v1")
    assert (entry["response_flags"], entry["traceparent"]) == ("-", headers["traceparent"])
    from labstack.clients import broker

    order_id = answer.json()["order_id"]

    def traces() -> set[str]:
        records = broker.read_all(steered.lab.endpoints.kafka, ["order.events"])
        return {str(r.headers["traceparent"]).split("-")[1] for r in records if r.key == order_id}

    assert wait_until(traces, 10) == {trace}


def test_weights_are_shares_of_the_traffic(steered: Grounds) -> None:
    """Of 400 requests, v2 gets the share of its weight, within the confidence interval, and none after a reset."""
    lab = steered.lab
    steered.must("start", "order-v2")
    assert str(lab.mesh.apply(split(70, 30))) == "VirtualService/order configured"
    answers = ask(lab.endpoints.gateway, "/orders?limit=1", 400, at_once=4)
    assert answers.statuses == {200: 400}
    assert plausible(answers.versions["v2"], 400, 0.3), answers.versions
    assert [route.to for route in lab.mesh.routes() if route.name == "order"] == ["order v1 70%, order v2 30%"]
    assert "+        - name: outbound|8000|v2|" in lab.mesh.diff()
    lab.mesh.reset()
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 60).versions == {"v1": 60}


def test_headers_choose_the_version(steered: Grounds) -> None:
    """Requests with the header go to v2, which discounts ten packs; all others go to v1, which does not."""
    lab = steered.lab
    lab.start("order-v2")
    lab.mesh.apply(
        routed("""
  - match: [{headers: {x-tester: {exact: "yes"}}, uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v2}}]
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]""")
    )
    gateway = lab.endpoints.gateway
    assert ask(gateway, "/orders?limit=1", 20, headers={"x-tester": "yes"}).versions == {"v2": 20}
    assert ask(gateway, "/orders?limit=1", 20, headers={"x-tester": "no"}).versions == {"v1": 20}
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 10}]}
    totals = [
        httpx.post(f"{gateway}/orders", json=body, headers=headers).json()["total_cents"]
        for headers in ({}, {"x-tester": "yes"})
    ]
    assert totals == [8900, 8010]


@pytest.mark.long
def test_a_mirror_hears_and_is_not_heard(steered: Grounds) -> None:
    """v1 answers every request, and v2 receives a copy of each."""
    lab = steered.lab
    lab.start("order-v2")
    lab.mesh.apply(
        routed("""
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]
    mirror: {host: order, subset: v2}""")
    )
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 50).versions == {"v1": 50}
    metrics = lab.endpoints.versions["order-v2"] + "/metrics"
    line = 'http_requests_total{method="GET",route="/orders",status="200"} 50.0'
    assert wait_until(lambda: line in httpx.get(metrics).text, 10), httpx.get(metrics).text


def test_events_reach_either_version(steered: Grounds) -> None:
    """v2 handles events although every request goes to v1, because the mesh does not route Kafka's traffic."""
    lab = steered.lab
    lab.start("order-v2")
    v1, v2 = (lab.endpoints.services["order"], lab.endpoints.versions["order-v2"])

    def assigned(url: str) -> int:
        return len(httpx.get(f"{url}/manage/consumer").json()["assigned"])

    assert wait_until(lambda: assigned(v1) and assigned(v2), 20)
    orders = [place(lab) for _ in range(12)]
    assert {ended(lab, order) for order in orders} == {("COMPLETED", None)}

    def handled(url: str) -> float:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("events_total{"))

    assert handled(v1) > 0
    assert handled(v2) > 0
    posts = [line for line in httpx.get(f"{v2}/metrics").text.splitlines() if 'method="POST"' in line]
    assert not [line for line in posts if line.startswith("http_requests_total")]


def test_faults_are_injected_as_often_as_said(steered: Grounds) -> None:
    """A delay of 0.3 s affects every request, an abort of 25% fails that share, and the access log flags both."""
    lab = steered.lab
    rule = "  - match: [{uri: {prefix: /orders}}]\n    route: [{destination: {host: order, subset: v1}}]\n    fault: "
    lab.mesh.apply(routed(rule + "{delay: {fixedDelay: 0.3s, percentage: {value: 100}}}"))
    slow = ask(lab.endpoints.gateway, "/orders?limit=1", 10)
    assert slow.statuses == {200: 10}
    assert min(slow.seconds) >= 0.29  # Envoy's timers count whole milliseconds, and may fire within the last one
    lab.mesh.apply(routed(rule + "{abort: {httpStatus: 418, percentage: {value: 25}}}"))
    failing = ask(lab.endpoints.gateway, "/orders?limit=1", 400, at_once=4)
    assert plausible(failing.statuses[418], 400, 0.25), failing.statuses
    assert failing.statuses[200] + failing.statuses[418] == 400
    flags = {"DI", "FI"}
    assert wait_until(lambda: flags <= {one["response_flags"] for one in lab.mesh.access_log(500)}, 5)


def test_a_timeout_ends_the_wait(steered: Grounds) -> None:
    """The gateway answers 504 with flag UT after the route's timeout on a frozen service; the others still respond."""
    lab = steered.lab
    lab.mesh.apply(
        routed("""
  - match: [{uri: {prefix: /orders}}]
    timeout: 0.5s
    retries: {attempts: 0}
    route: [{destination: {host: order, subset: v1}}]""")
    )
    lab.pause("order")
    late = ask(lab.endpoints.gateway, "/orders?limit=1", 3)
    assert late.statuses == {504: 3}
    assert 0.45 < min(late.seconds) < max(late.seconds) < 3
    assert ask(lab.endpoints.gateway, "/inventory/products?limit=1", 3).statuses == {200: 3}
    lab.resume("order")
    assert wait_until(lambda: any(one["response_flags"] == "UT" for one in lab.mesh.access_log(50)), 5)
    assert wait_until(lambda: ask(lab.endpoints.gateway, "/orders?limit=1", 1).statuses == {200: 1}, 10)


def test_a_circuit_breaker_overflows(steered: Grounds) -> None:
    """With one connection and one pending request, 18 of 20 concurrent requests are rejected, flagged and counted."""
    lab = steered.lab
    lab.mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order}
spec:
  host: order
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}
""")
    lab.mesh.apply(
        routed("""
  - match: [{uri: {prefix: /orders}}]
    timeout: 2s
    retries: {attempts: 0}
    route: [{destination: {host: order, subset: v1}}]""")
    )
    lab.pause("order")
    crowd = ask(lab.endpoints.gateway, "/orders?limit=1", 20, at_once=20)
    assert crowd.statuses == {503: 18, 504: 2}
    overflows = lab.mesh.statistics(r"8000\|v1\|order.*upstream_rq_pending_overflow$")
    assert list(overflows.values()) == [18]

    def flagged() -> bool:
        return sum(one["response_flags"] == "UO" for one in lab.mesh.access_log(60)) == 18

    assert wait_until(flagged, 5)
    lab.resume("order")


@pytest.mark.long
def test_a_dead_endpoint_is_ejected(steered: Grounds) -> None:
    """After v2 is killed, half of the requests fail until Envoy ejects v2 and counts the ejection.

    The address of a killed container does not respond, so the rule sets a connect timeout.
    """
    lab = steered.lab
    lab.start("order-v2")
    lab.mesh.apply("""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: order}
spec:
  host: order
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
  trafficPolicy:
    connectionPool: {tcp: {connectTimeout: 0.2s}}
    outlierDetection: {consecutive5xxErrors: 3, interval: 0.2s, baseEjectionTime: 60s, maxEjectionPercent: 50}
""")
    lab.mesh.apply(
        routed("""
  - match: [{uri: {prefix: /orders}}]
    retries: {attempts: 0}
    route: [{destination: {host: order}}]""")
    )
    assert set(ask(lab.endpoints.gateway, "/orders?limit=1", 40).versions) == {"v1", "v2"}
    lab.kill("order-v2")

    def ejected() -> int:
        ask(lab.endpoints.gateway, "/orders?limit=1", 10)
        return sum(lab.mesh.statistics(r"8000\|\|order.*ejections_active$").values())

    assert wait_until(ejected, 20) == 1
    after = ask(lab.endpoints.gateway, "/orders?limit=1", 40)
    assert (after.statuses, after.versions) == ({200: 40}, {"v1": 40})
    # The killed consumer stays in its group until its session times out, and a reset waits for that.
    steered.must("reset")


def test_no_request_fails_while_the_configuration_changes(steered: Grounds) -> None:
    """Every request under load returns 200 while the weights change repeatedly."""
    lab = steered.lab
    lab.start("order-v2")
    with asking(lab.endpoints.gateway, "/orders?limit=1") as answers:
        for number in range(0, 100, 1 if LONG else 5):
            lab.mesh.apply(split(100 - number, number))
    assert set(answers.statuses) == {200}
    assert answers.statuses[200] > 100
    assert set(answers.versions) == {"v1", "v2"}


def test_two_edits_at_once_are_both_in_force(steered: Grounds) -> None:
    """Two concurrent applies from two handles wait for each other, and both take effect."""
    from labstack import Lab

    labs = [Lab(paths=steered.paths) for _ in range(2)]
    texts = [
        routed(f"  - match: [{{uri: {{prefix: /{name}}}}}]\n    directResponse: {{status: 299}}", name) for name in "ab"
    ]
    threads = [threading.Thread(target=lab.mesh.apply, args=(text,)) for lab, text in zip(labs, texts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for path in ("/a", "/b"):
        assert httpx.get(steered.lab.endpoints.gateway + path).status_code == 299
    names = {one.name for one in steered.lab.mesh.documents()}
    assert {"a", "b"} <= names


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (split(70, 30).replace("weight: 30", "wieght: 30"), InvalidMesh, ["<text>:14", "wieght", "weight"]),
        (split(70, 30).replace("subset: v2", "subset: v3"), InvalidMesh, ["<text>:14", "v3", "v1", "v2"]),
        (split(70, 30).replace("host: order, subset: v2", "host: ordre"), InvalidMesh, ["ordre", "order"]),
        (split(70, 30).replace("weight: 30", "weight: -1"), InvalidMesh, ["<text>:14", "-1"]),
        (split(70, 30).replace("  http:", "\thttp:"), InvalidYaml, ["<text>:8"]),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)),
            InvalidYaml,
            [],
        ),
    ],
    ids=["misspelt", "no-subset", "no-host", "weight", "tab", "bomb"],
)
def test_nothing_bad_gets_in(steered: Grounds, text: str, error: type[LabError], words: list[str]) -> None:
    """A mistake is rejected with its line and a suggestion; the active configuration stays, and `show` prints it."""
    before = steered.lab.mesh.show()
    with pytest.raises(error) as refused:
        steered.lab.mesh.apply(text)
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert steered.lab.mesh.show() == before
    assert ask(steered.lab.endpoints.gateway, "/orders?limit=1", 3).versions == {"v1": 3}


def test_force_shows_what_a_broken_reference_does(steered: Grounds, tmp_path: Path) -> None:
    """`lab mesh apply` rejects a missing subset; with `--force`, requests fail and the access log shows why."""
    file = tmp_path / "broken.yaml"
    file.write_text(split(0, 1).replace("subset: v2", "subset: v9"))
    refused = steered.run("mesh", "apply", str(file))
    assert (refused.returncode, "v9" in refused.stderr) == (1, True)
    steered.must("mesh", "apply", str(file), "--force")
    assert ask(steered.lab.endpoints.gateway, "/orders?limit=1", 3).statuses == {503: 3}
    assert wait_until(lambda: any(one["response_flags"] == "NC" for one in steered.lab.mesh.access_log(20)), 5)
    steered.must("mesh", "reset")
    assert ask(steered.lab.endpoints.gateway, "/orders?limit=1", 3).statuses == {200: 3}


def test_a_megabyte_of_routes(steered: Grounds) -> None:
    """A configuration of 1 MB takes effect within seconds, and a reset removes it."""
    rules = "".join(
        f"  - match: [{{uri: {{exact: /page/{number}}}}}]\n"
        f"    directResponse: {{status: 299, body: {{string: '{'x' * 350}'}}}}\n"
        for number in range(2500)
    )
    text = routed(rules, "pages")
    assert len(text) > 1_000_000
    steered.lab.mesh.apply(text)
    assert httpx.get(f"{steered.lab.endpoints.gateway}/page/2499").status_code == 299
    steered.lab.mesh.reset()
    assert httpx.get(f"{steered.lab.endpoints.gateway}/page/2499").status_code == 404


def test_a_port_in_use(steered: Grounds) -> None:
    """A Gateway on a taken port is rejected with the line and the port's owner; on a free port, the gateway listens."""
    if IN_CONTAINERS:
        pytest.skip("in a container every port but the gateway's own is free, and not published")
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: second-gateway}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ["*"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: second}}
spec:
  hosts: ["*"]
  gateways: [second-gateway]
  http: [{{directResponse: {{status: 299}}}}]
"""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        with pytest.raises(InvalidMesh, match=rf"<text>:8: .*port {port} is taken by .*{os.getpid()}"):
            steered.lab.mesh.apply(text.format(port=port))
    steered.lab.mesh.apply(text.format(port=port))
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 299


def test_a_service_that_is_down(steered: Grounds) -> None:
    """The gateway returns 503 for a service that is down when it starts, and recovers once the service is up."""
    lab = steered.lab
    lab.stop("order")
    lab.restart("envoy")
    away = ask(lab.endpoints.gateway, "/orders?limit=1", 3)
    assert away.statuses == {503: 3}
    lab.start("order")
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 10).statuses == {200: 10}


def test_what_was_applied_outlives_the_gateway(steered: Grounds) -> None:
    """A restarted Envoy keeps its configuration; a change while it is down is rejected with the next step."""
    lab = steered.lab
    lab.mesh.apply(routed("  - match: [{uri: {prefix: /hello}}]\n    directResponse: {status: 299}", "hello"))
    lab.kill("envoy")
    assert lab.status(memory=False).complaints["envoy"] == "failed"
    with pytest.raises(NotRunning, match=r"envoy(.|\n)*lab start envoy"):
        lab.mesh.apply(split(1, 1))
    lab.start("envoy")
    assert httpx.get(f"{lab.endpoints.gateway}/hello").status_code == 299


def test_without_its_control_plane_the_gateway_goes_on(steered: Grounds) -> None:
    """With istiod killed, the last configuration stays active; a restarted istiod accepts changes again."""
    lab = steered.lab
    if lab.mesh.control_plane == "the lab's translator":
        pytest.skip("the translator is no program that runs")
    lab.kill("istiod")
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 10).statuses == {200: 10}
    with pytest.raises(NotRunning, match="istiod"):
        lab.mesh.apply(split(1, 1))
    lab.start("istiod")
    lab.start("order-v2")
    lab.mesh.apply(split(0, 1))
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 10).versions == {"v2": 10}


def test_istiod_is_told_until_it_knows_the_services(steered: Grounds) -> None:
    """If istiod knows none of the services, as can happen at startup, it receives the whole configuration again."""
    if steered.lab.mesh.control_plane == "the lab's translator":
        pytest.skip("the translator is no program that runs")
    control_plane = steered.lab.backend.component(ControlPlane.name)
    assert isinstance(control_plane, ControlPlane)
    control_plane.place("")
    assert wait_until(lambda: control_plane.services() == 0, 5)
    control_plane.settle()
    assert control_plane.services() == 4
    gateway = steered.lab.endpoints.gateway  # its listener was removed, too
    assert wait_until(lambda: ask(gateway, "/orders?limit=1", 10).statuses == {200: 10}, 10)


def test_an_emptied_folder(steered: Grounds) -> None:
    """If the gateway's folder is emptied, either `lab status` reports it or nothing breaks, and `lab up` repairs it."""
    lab = steered.lab
    if IN_CONTAINERS:
        pytest.skip("the folder is inside the container")
    for folder in ("istiod/resources", "envoy"):
        for path in (lab.paths.state / "config" / folder).glob("*"):
            path.unlink()
    if lab.mesh.control_plane != "the lab's translator":
        assert wait_until(lambda: "envoy" in lab.status(memory=False).complaints, 10)
    steered.must("up")
    lab.mesh.apply(routed("  - match: [{uri: {prefix: /hello}}]\n    directResponse: {status: 299}", "hello"))
    assert httpx.get(f"{lab.endpoints.gateway}/hello").status_code == 299
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 5).statuses == {200: 5}


def test_reset_takes_the_mesh_back(steered: Grounds) -> None:
    """`lab reset` stops further versions and restores the lab's configuration, even after a forced change."""
    lab = steered.lab
    lab.start("order-v2")
    lab.mesh.apply(split(0, 1))
    gateway = (ISTIO / "gateway.yaml").read_text().replace("istio: ingressgateway", "istio: nobody")
    lab.mesh.apply(gateway, force=True)
    assert wait_until(lambda: "envoy" in lab.status(memory=False).complaints, 10)
    steered.must("reset")
    status = lab.status(memory=False)
    assert (status.state, "order-v2" in status.components) == ("ready", False)
    assert ask(lab.endpoints.gateway, "/orders?limit=1", 5).versions == {"v1": 5}


def test_what_the_translator_cannot_is_refused(steered: Grounds) -> None:
    """The translator rejects valid Istio that it does not support, by name and line; istiod accepts it."""
    lab = steered.lab
    text = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: streams}
spec:
  hosts: ["*"]
  gateways: [lab-gateway]
  tcp:
  - route: [{destination: {host: order, port: {number: 8000}}}]
"""
    if lab.mesh.control_plane == "the lab's translator":
        with pytest.raises(Unsupported, match=r"<text>:8: spec\.tcp"):
            lab.mesh.apply(text)
    else:
        lab.mesh.apply(text)


@pytest.mark.long
def test_one_verb_after_the_other(steered: Grounds, tmp_path: Path) -> None:
    """`show`, `diff`, `routes` and `log` print the current state in a shell, as text and as JSON."""
    must: Callable[..., str] = steered.must
    file = tmp_path / "canary.yaml"
    file.write_text(split(100, 0))
    assert must("mesh", "apply", str(file)).strip() == "VirtualService/order configured"
    assert must("mesh", "apply", str(file)).strip() == "VirtualService/order unchanged"
    assert "weight: 100" in must("mesh", "show", "virtualservice/order")
    assert "kind: Gateway" in must("mesh", "show")
    assert steered.run("mesh", "show", "nobody").returncode == 1
    assert "Configured by" in must("mesh", "routes")
    assert '"name": "order"' in must("mesh", "routes", "--json")
    must("mesh", "reset")
    assert "weighted_clusters" in must("mesh", "diff")
    ask(steered.lab.endpoints.gateway, "/orders?limit=1", 1)
    assert wait_until(lambda: "/orders?limit=1" in must("mesh", "log", "--json"), 5)
    assert "flags" in must("mesh", "log")
