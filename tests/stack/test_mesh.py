"""The gateway from outside: it routes requests as the Istio resources say, with either control plane."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labstack.backends.components import ControlPlane
from labstack.clients import http
from labstack.config.paths import LabPaths
from labstack.errors import LabError, NotRunning
from labstack.gateway import envoy_files
from labstack.gateway.store import ISTIO
from labstack.install import find_program
from labstack.istio.errors import InvalidMesh, InvalidYaml, Unsupported
from labstack.lab import access_of
from labstack.waiting import wait_until
from tests.stack.intact import is_intact
from tests.stack.labs import CONTROL_PLANE, LabHarness
from tests.stack.one_order import place_order, wait_for_outcome
from tests.stack.traffic import continuous_requests, is_plausible_share, send_requests
from tests.suite.chance import LONG

IN_CONTAINERS = os.environ.get("LAB_MODE") == "containers"


@pytest.fixture(scope="module", params=["translator", pytest.param("istiod", marks=pytest.mark.long)])
def _mesh_lab(request: pytest.FixtureRequest, _shared: Callable[[], LabHarness]) -> Iterator[LabHarness]:
    """Return the shared lab if it has the control plane, or start a lab with it."""
    if request.param == CONTROL_PLANE:
        shared = _shared()
        yield shared
        if not is_intact(shared.lab):
            shared.reset_or_recreate()
        return
    if request.param == "istiod" and not find_program("istiod", LabPaths.of_user()):
        pytest.skip("NOT TRIED: there is no istiod on this machine; `lab install istiod` gets it")
    harness = LabHarness(f"mesh-{request.param}", environment={"LAB_CONTROL_PLANE": request.param})
    try:
        harness.run_checked("up")
        yield harness
    finally:
        harness.close()


@pytest.fixture
def mesh_lab(_mesh_lab: LabHarness) -> LabHarness:
    """Return a running lab for each control plane, with the lab's own configuration."""
    _mesh_lab.make_ready()
    if _mesh_lab.lab.endpoints.versions:
        _mesh_lab.reset_or_recreate()
    elif not is_intact(_mesh_lab.lab):
        _mesh_lab.lab.mesh.reset()
    return _mesh_lab


def virtual_service(rules: str, name: str = "order") -> str:
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


def weighted_routes(v1: int, v2: int) -> str:
    return virtual_service(f"""
  - name: order
    match: [{{uri: {{prefix: /orders}}}}]
    route:
    - {{destination: {{host: order, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: order, subset: v2}}, weight: {v2}}}""")


def test_status_reports_the_control_plane(mesh_lab: LabHarness) -> None:
    """`lab status` reports the control plane and the gateway's address, as text and as JSON, and `lab.mesh` agrees."""
    named = {"istiod": "istiod 1.29.1", "translator": "the lab's translator"}
    status = mesh_lab.status()
    control_plane = status["components"]["envoy"]["control_plane"]
    assert f"configured by {named[control_plane]}" in " ".join(mesh_lab.run_checked("status").split())
    assert mesh_lab.lab.mesh.control_plane == named[control_plane]
    assert status["endpoints"]["gateway"] == mesh_lab.lab.endpoints.gateway
    assert ("istiod" in status["components"]) == (control_plane == "istiod")


def test_gateway_serves_all_four_apis_from_one_origin(mesh_lab: LabHarness) -> None:
    """The gateway serves every path of the four APIs from one origin, and no other path of the services."""
    origin = mesh_lab.lab.endpoints.gateway
    for path in ("/orders", "/inventory/products", "/payments", "/shipping/shipments"):
        answer = http.get(origin + path)
        assert answer.status_code == 200, (path, answer.text)
        assert "items" in answer.json()
    for path in ("/", "/healthz/ready", "/metrics", "/openapi.json", "/docs", "/manage/consumer"):
        assert http.get(origin + path).status_code == 404
    order_id = place_order(mesh_lab.lab)
    assert wait_for_outcome(mesh_lab.lab, order_id) == ("COMPLETED", None)
    refused = http.request("POST", f"{origin}/orders", json={"customer_id": "ada"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")


def test_request_id_and_trace_are_propagated(mesh_lab: LabHarness) -> None:
    """The response and the access log carry the request's ID, and the resulting event continues the trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "sencha", "quantity": 1}]}
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    answer = http.request("POST", f"{mesh_lab.lab.endpoints.gateway}/orders", json=body, headers=headers)
    request_id = answer.headers["x-request-id"]

    def logged() -> dict[str, object] | None:
        found = [one for one in mesh_lab.lab.mesh.access_log() if one["request_id"] == request_id]
        return found[0] if found else None

    entry = wait_until(logged, 5)
    assert isinstance(entry, dict)
    assert (entry["method"], entry["response_code"], entry["service_version"]) == ("POST", 201, "v1")
    assert (entry["response_flags"], entry["traceparent"]) == ("-", headers["traceparent"])
    from labstack.clients import broker

    order_id = answer.json()["order_id"]

    def traces() -> set[str]:
        records = broker.read_all(mesh_lab.lab.endpoints.kafka, ["order.events"])
        return {str(r.headers["traceparent"]).split("-")[1] for r in records if r.key == order_id}

    assert wait_until(traces, 10) == {trace}


def test_weights_split_the_traffic(mesh_lab: LabHarness) -> None:
    """Of 400 requests, v2 gets the share of its weight, within the confidence interval, and none after a reset."""
    lab = mesh_lab.lab
    mesh_lab.run_checked("start", "order-v2")
    assert str(lab.mesh.apply(weighted_routes(70, 30))) == "VirtualService/order configured"
    responses = send_requests(lab.endpoints.gateway, "/orders?limit=1", 400, concurrency=4)
    assert responses.statuses == {200: 400}
    assert is_plausible_share(responses.versions["v2"], 400, 0.3), responses.versions
    assert [route.to for route in lab.mesh.routes() if route.name == "order"] == ["order v1 70%, order v2 30%"]
    assert "+        - name: outbound|8000|v2|" in lab.mesh.diff()
    lab.mesh.reset()
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 60).versions == {"v1": 60}


def test_headers_select_the_version(mesh_lab: LabHarness) -> None:
    """Requests with the header go to v2, which discounts ten packs; all others go to v1, which does not."""
    lab = mesh_lab.lab
    lab.start("order-v2")
    lab.mesh.apply(
        virtual_service("""
  - match: [{headers: {x-tester: {exact: "yes"}}, uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v2}}]
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]""")
    )
    gateway = lab.endpoints.gateway
    assert send_requests(gateway, "/orders?limit=1", 20, headers={"x-tester": "yes"}).versions == {"v2": 20}
    assert send_requests(gateway, "/orders?limit=1", 20, headers={"x-tester": "no"}).versions == {"v1": 20}
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 10}]}
    totals = [
        http.request("POST", f"{gateway}/orders", json=body, headers=headers).json()["total_cents"]
        for headers in ({}, {"x-tester": "yes"})
    ]
    assert totals == [8900, 8010]


@pytest.mark.long
def test_mirror_receives_copies_and_never_answers(mesh_lab: LabHarness) -> None:
    """v1 answers every request, and v2 receives a copy of each."""
    lab = mesh_lab.lab
    lab.start("order-v2")
    lab.mesh.apply(
        virtual_service("""
  - match: [{uri: {prefix: /orders}}]
    route: [{destination: {host: order, subset: v1}}]
    mirror: {host: order, subset: v2}""")
    )
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 50).versions == {"v1": 50}
    metrics = lab.endpoints.versions["order-v2"] + "/metrics"
    line = 'http_requests_total{method="GET",route="/orders",status="200"} 50.0'
    assert wait_until(lambda: line in http.get(metrics).text, 10), http.get(metrics).text


def test_events_reach_both_versions(mesh_lab: LabHarness) -> None:
    """v2 handles events although every request goes to v1, because the mesh does not route Kafka's traffic."""
    lab = mesh_lab.lab
    lab.start("order-v2")
    v1, v2 = (lab.endpoints.services["order"], lab.endpoints.versions["order-v2"])

    def assigned(url: str) -> int:
        return len(http.get(f"{url}/manage/consumer").json()["assigned"])

    assert wait_until(lambda: assigned(v1) and assigned(v2), 20)
    orders = [place_order(lab) for _ in range(12)]
    assert {wait_for_outcome(lab, order) for order in orders} == {("COMPLETED", None)}

    def handled(url: str) -> float:
        lines = http.get(f"{url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("events_total{"))

    assert handled(v1) > 0
    assert handled(v2) > 0
    posts = [line for line in http.get(f"{v2}/metrics").text.splitlines() if 'method="POST"' in line]
    assert not [line for line in posts if line.startswith("http_requests_total") and not line.endswith(" 0.0")]


def test_faults_are_injected_at_the_configured_rate(mesh_lab: LabHarness) -> None:
    """A delay of 0.3 s affects every request, an abort of 25% fails that share, and the access log flags both."""
    lab = mesh_lab.lab
    rule = "  - match: [{uri: {prefix: /orders}}]\n    route: [{destination: {host: order, subset: v1}}]\n    fault: "
    lab.mesh.apply(virtual_service(rule + "{delay: {fixedDelay: 0.3s, percentage: {value: 100}}}"))
    slow = send_requests(lab.endpoints.gateway, "/orders?limit=1", 10)
    assert slow.statuses == {200: 10}
    assert min(slow.seconds) >= 0.29  # Envoy's timers count whole milliseconds, and may fire within the last one
    lab.mesh.apply(virtual_service(rule + "{abort: {httpStatus: 418, percentage: {value: 25}}}"))
    failing = send_requests(lab.endpoints.gateway, "/orders?limit=1", 400, concurrency=4)
    assert is_plausible_share(failing.statuses[418], 400, 0.25), failing.statuses
    assert failing.statuses[200] + failing.statuses[418] == 400
    flags = {"DI", "FI"}
    assert wait_until(lambda: flags <= {one["response_flags"] for one in lab.mesh.access_log(500)}, 5)


def test_route_timeout_returns_504(mesh_lab: LabHarness) -> None:
    """The gateway answers 504 with flag UT after the route's timeout on a frozen service; the others still respond."""
    lab = mesh_lab.lab
    lab.mesh.apply(
        virtual_service("""
  - match: [{uri: {prefix: /orders}}]
    timeout: 0.5s
    retries: {attempts: 0}
    route: [{destination: {host: order, subset: v1}}]""")
    )
    lab.faults.pause("order")
    late = send_requests(lab.endpoints.gateway, "/orders?limit=1", 3)
    assert late.statuses == {504: 3}
    assert 0.45 < min(late.seconds) < max(late.seconds) < 3
    assert send_requests(lab.endpoints.gateway, "/inventory/products?limit=1", 3).statuses == {200: 3}
    lab.faults.resume("order")
    assert wait_until(lambda: any(one["response_flags"] == "UT" for one in lab.mesh.access_log(50)), 5)
    assert wait_until(lambda: send_requests(lab.endpoints.gateway, "/orders?limit=1", 1).statuses == {200: 1}, 10)


def test_circuit_breaker_rejects_excess_requests(mesh_lab: LabHarness) -> None:
    """With one connection and one pending request, 18 of 20 concurrent requests are rejected, flagged and counted."""
    lab = mesh_lab.lab
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
        virtual_service("""
  - match: [{uri: {prefix: /orders}}]
    timeout: 2s
    retries: {attempts: 0}
    route: [{destination: {host: order, subset: v1}}]""")
    )
    lab.faults.pause("order")
    responses = send_requests(lab.endpoints.gateway, "/orders?limit=1", 20, concurrency=20)
    assert responses.statuses == {503: 18, 504: 2}
    overflows = lab.mesh.statistics(r"8000\|v1\|order.*upstream_rq_pending_overflow$")
    assert list(overflows.values()) == [18]

    def flagged() -> bool:
        return sum(one["response_flags"] == "UO" for one in lab.mesh.access_log(60)) == 18

    assert wait_until(flagged, 5)
    lab.faults.resume("order")


@pytest.mark.long
def test_a_dead_endpoint_is_ejected(mesh_lab: LabHarness) -> None:
    """After v2 is killed, half of the requests fail until Envoy ejects v2 and counts the ejection.

    The address of a killed container does not respond, so the rule sets a connect timeout.
    """
    lab = mesh_lab.lab
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
        virtual_service("""
  - match: [{uri: {prefix: /orders}}]
    retries: {attempts: 0}
    route: [{destination: {host: order}}]""")
    )
    assert set(send_requests(lab.endpoints.gateway, "/orders?limit=1", 40).versions) == {"v1", "v2"}
    lab.faults.kill("order-v2")

    def ejected() -> int:
        send_requests(lab.endpoints.gateway, "/orders?limit=1", 10)
        return sum(lab.mesh.statistics(r"8000\|\|order.*ejections_active$").values())

    assert wait_until(ejected, 20) == 1
    after = send_requests(lab.endpoints.gateway, "/orders?limit=1", 40)
    assert (after.statuses, after.versions) == ({200: 40}, {"v1": 40})
    # The killed consumer stays in its group until its session times out, and a reset waits for that.
    mesh_lab.run_checked("reset")


def changing_subsets(number: int) -> str:
    """Return the next of a series of changes: each removes a subset, adds one, and moves another one's endpoints."""
    stays, new = ("v1", "v2") if number % 2 else ("v2", "v1")
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: order}}
spec:
  host: order
  subsets:
  - {{name: stays, labels: {{version: {stays}}}}}
  - {{name: new-{number}, labels: {{version: {new}}}}}
"""
    routes = virtual_service(f"""
  - match: [{{uri: {{prefix: /orders}}, headers: {{x-subset: {{exact: new}}}}}}]
    route: [{{destination: {{host: order, subset: new-{number}}}}}]
  - match: [{{uri: {{prefix: /orders}}, headers: {{x-subset: {{exact: stays}}}}}}]
    route: [{{destination: {{host: order, subset: stays}}}}]
  - match: [{{uri: {{prefix: /orders}}}}]
    route:
    - {{destination: {{host: order, subset: stays}}, weight: {number}}}
    - {{destination: {{host: order, subset: new-{number}}}, weight: {100 - number}}}""")
    return f"{rule}---{routes}"


def test_no_request_fails_while_the_configuration_changes(mesh_lab: LabHarness) -> None:
    """Under load every request succeeds while weights, subsets and endpoints change, and each change holds at once."""
    lab = mesh_lab.lab
    lab.start("order-v2")
    path = "/orders?limit=1"
    with (
        continuous_requests(lab.endpoints.gateway, path) as responses,
        http.client(lab.endpoints.gateway, timeout=20) as client,
    ):
        for number in range(0, 100, 1 if LONG else 5):
            lab.mesh.apply(changing_subsets(number))
            found = {
                subset: client.get(path, headers={"x-subset": subset}).headers.get("x-service-version")
                for subset in ("new", "stays")
            }
            stays, new = ("v1", "v2") if number % 2 else ("v2", "v1")
            assert found == {"new": new, "stays": stays}, number
    reasons = {one["response_code_details"] for one in lab.mesh.access_log(10_000) if one["response_code"] != 200}
    assert set(responses.statuses) == {200}, reasons
    assert responses.statuses[200] > 100
    assert set(responses.versions) == {"v1", "v2"}


def test_apply_waits_until_the_gateway_reports_the_routes(
    mesh_lab: LabHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`apply` does not return while Envoy reports an earlier version of the routes, as a busy Envoy does."""
    lab = mesh_lab.lab
    if IN_CONTAINERS or lab.mesh.control_plane != "the lab's translator":
        pytest.skip("another control plane pushes the routes")
    earlier, has_version = [False, False], envoy_files.have_version

    def has_version_later(*arguments: Any) -> bool:
        return earlier.pop() if earlier else has_version(*arguments)

    monkeypatch.setattr(envoy_files, "have_version", has_version_later)
    lab.mesh.apply(
        virtual_service("""
  - match: [{uri: {prefix: /orders}}]
    timeout: 7s
    route: [{destination: {host: order, subset: v1}}]""")
    )
    assert earlier == []
    lab.mesh.reset()


def test_concurrent_applies_both_take_effect(mesh_lab: LabHarness) -> None:
    """Two concurrent applies from two handles wait for each other, and both take effect."""
    from labstack import Lab

    labs = [Lab(paths=mesh_lab.paths) for _ in range(2)]
    texts = [
        virtual_service(f"  - match: [{{uri: {{prefix: /{name}}}}}]\n    directResponse: {{status: 299}}", name)
        for name in "ab"
    ]
    threads = [threading.Thread(target=lab.mesh.apply, args=(text,)) for lab, text in zip(labs, texts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for path in ("/a", "/b"):
        assert http.get(mesh_lab.lab.endpoints.gateway + path).status_code == 299
    names = {one.name for one in mesh_lab.lab.mesh.documents()}
    assert {"a", "b"} <= names


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (weighted_routes(70, 30).replace("weight: 30", "wieght: 30"), InvalidMesh, ["<text>:14", "wieght", "weight"]),
        (weighted_routes(70, 30).replace("subset: v2", "subset: v3"), InvalidMesh, ["<text>:14", "v3", "v1", "v2"]),
        (weighted_routes(70, 30).replace("host: order, subset: v2", "host: ordre"), InvalidMesh, ["ordre", "order"]),
        (weighted_routes(70, 30).replace("weight: 30", "weight: -1"), InvalidMesh, ["<text>:14", "-1"]),
        (weighted_routes(70, 30).replace("  http:", "\thttp:"), InvalidYaml, ["<text>:8"]),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)),
            InvalidYaml,
            [],
        ),
    ],
    ids=["misspelt", "no-subset", "no-host", "weight", "tab", "bomb"],
)
def test_invalid_configuration_is_rejected(
    mesh_lab: LabHarness, text: str, error: type[LabError], words: list[str]
) -> None:
    """A mistake is rejected with its line and a suggestion; the active configuration stays, and `show` prints it."""
    before = mesh_lab.lab.mesh.show()
    with pytest.raises(error) as refused:
        mesh_lab.lab.mesh.apply(text)
    assert all(word in str(refused.value) for word in words), str(refused.value)
    assert mesh_lab.lab.mesh.show() == before
    assert send_requests(mesh_lab.lab.endpoints.gateway, "/orders?limit=1", 3).versions == {"v1": 3}


def test_force_applies_a_broken_reference(mesh_lab: LabHarness, tmp_path: Path) -> None:
    """`lab mesh apply` rejects a missing subset; with `--force`, requests fail and the access log shows why."""
    file = tmp_path / "broken.yaml"
    file.write_text(weighted_routes(0, 1).replace("subset: v2", "subset: v9"))
    refused = mesh_lab.run("mesh", "apply", str(file))
    assert (refused.returncode, "v9" in refused.stderr) == (1, True)
    mesh_lab.run_checked("mesh", "apply", str(file), "--force")
    assert send_requests(mesh_lab.lab.endpoints.gateway, "/orders?limit=1", 3).statuses == {503: 3}
    assert wait_until(lambda: any(one["response_flags"] == "NC" for one in mesh_lab.lab.mesh.access_log(20)), 5)
    mesh_lab.run_checked("mesh", "reset")
    assert send_requests(mesh_lab.lab.endpoints.gateway, "/orders?limit=1", 3).statuses == {200: 3}


def test_large_configuration_takes_effect_within_seconds(mesh_lab: LabHarness) -> None:
    """A configuration of 1 MB takes effect within seconds, and a reset removes it."""
    rules = "".join(
        f"  - match: [{{uri: {{exact: /page/{number}}}}}]\n"
        f"    directResponse: {{status: 299, body: {{string: '{'x' * 350}'}}}}\n"
        for number in range(2500)
    )
    text = virtual_service(rules, "pages")
    assert len(text) > 1_000_000
    mesh_lab.lab.mesh.apply(text)
    assert http.get(f"{mesh_lab.lab.endpoints.gateway}/page/2499").status_code == 299
    mesh_lab.lab.mesh.reset()
    assert http.get(f"{mesh_lab.lab.endpoints.gateway}/page/2499").status_code == 404


def test_gateway_on_a_taken_port_is_rejected(mesh_lab: LabHarness) -> None:
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
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(InvalidMesh, match=rf"<text>:8: .*port {port} is taken by .*{os.getpid()}"):
            mesh_lab.lab.mesh.apply(text.format(port=port))
    mesh_lab.lab.mesh.apply(text.format(port=port))
    assert http.get(f"http://127.0.0.1:{port}/").status_code == 299


def test_gateway_returns_503_until_a_service_is_up(mesh_lab: LabHarness) -> None:
    """The gateway returns 503 for a service that is down when it starts, and recovers once the service is up."""
    lab = mesh_lab.lab
    lab.stop("order")
    lab.restart("envoy")
    unavailable = send_requests(lab.endpoints.gateway, "/orders?limit=1", 3)
    assert unavailable.statuses == {503: 3}
    lab.start("order")
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 10).statuses == {200: 10}


def test_configuration_survives_a_gateway_restart(mesh_lab: LabHarness) -> None:
    """A restarted Envoy keeps its configuration; a change while it is down is rejected with the next step."""
    lab = mesh_lab.lab
    lab.mesh.apply(virtual_service("  - match: [{uri: {prefix: /hello}}]\n    directResponse: {status: 299}", "hello"))
    lab.faults.kill("envoy")
    assert lab.status(memory=False).complaints["envoy"] == "failed"
    with pytest.raises(NotRunning, match=r"envoy(.|\n)*lab start envoy"):
        lab.mesh.apply(weighted_routes(1, 1))
    lab.start("envoy")
    assert http.get(f"{lab.endpoints.gateway}/hello").status_code == 299


def test_gateway_keeps_its_configuration_without_istiod(mesh_lab: LabHarness) -> None:
    """With istiod killed, the last configuration stays active; a restarted istiod accepts changes again."""
    lab = mesh_lab.lab
    if lab.mesh.control_plane == "the lab's translator":
        pytest.skip("the translator is no program that runs")
    lab.faults.kill("istiod")
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 10).statuses == {200: 10}
    with pytest.raises(NotRunning, match="istiod"):
        lab.mesh.apply(weighted_routes(1, 1))
    lab.start("istiod")
    lab.start("order-v2")
    lab.mesh.apply(weighted_routes(0, 1))
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 10).versions == {"v2": 10}


def test_istiod_gets_the_configuration_again_if_it_knows_no_service(mesh_lab: LabHarness) -> None:
    """If istiod knows none of the services, as can happen at startup, it receives the whole configuration again."""
    if mesh_lab.lab.mesh.control_plane == "the lab's translator":
        pytest.skip("the translator is no program that runs")
    control_plane = access_of(mesh_lab.lab).backend().component(ControlPlane.name)
    assert isinstance(control_plane, ControlPlane)
    control_plane.write_configuration("")
    assert wait_until(lambda: control_plane.services() == 0, 5)
    control_plane.settle()
    assert control_plane.services() == 4
    gateway = mesh_lab.lab.endpoints.gateway  # its listener was removed, too
    assert wait_until(lambda: send_requests(gateway, "/orders?limit=1", 10).statuses == {200: 10}, 10)


def test_up_repairs_an_emptied_gateway_folder(mesh_lab: LabHarness) -> None:
    """If the gateway's folder is emptied, either `lab status` reports it or nothing breaks, and `lab up` repairs it."""
    lab = mesh_lab.lab
    if IN_CONTAINERS:
        pytest.skip("the folder is inside the container")
    for folder in ("istiod/resources", "envoy"):
        for path in (access_of(lab).paths.state / "config" / folder).glob("*"):
            path.unlink()
    if lab.mesh.control_plane != "the lab's translator":
        assert wait_until(lambda: "envoy" in lab.status(memory=False).complaints, 10)
    mesh_lab.run_checked("up")
    lab.mesh.apply(virtual_service("  - match: [{uri: {prefix: /hello}}]\n    directResponse: {status: 299}", "hello"))
    assert http.get(f"{lab.endpoints.gateway}/hello").status_code == 299
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 5).statuses == {200: 5}


def test_reset_restores_the_mesh_configuration(mesh_lab: LabHarness) -> None:
    """`lab reset` stops further versions and restores the lab's configuration, even after a forced change."""
    lab = mesh_lab.lab
    lab.start("order-v2")
    lab.mesh.apply(weighted_routes(0, 1))
    gateway = (ISTIO / "gateway.yaml").read_text().replace("istio: ingressgateway", "istio: nobody")
    lab.mesh.apply(gateway, force=True)
    assert wait_until(lambda: "envoy" in lab.status(memory=False).complaints, 10)
    mesh_lab.run_checked("reset")
    status = lab.status(memory=False)
    assert (status.state, "order-v2" in status.components) == ("ready", False)
    assert send_requests(lab.endpoints.gateway, "/orders?limit=1", 5).versions == {"v1": 5}


def test_translator_rejects_unsupported_istio(mesh_lab: LabHarness) -> None:
    """The translator rejects valid Istio that it does not support, by name and line; istiod accepts it."""
    lab = mesh_lab.lab
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
def test_mesh_commands_print_the_current_state(mesh_lab: LabHarness, tmp_path: Path) -> None:
    """`show`, `diff`, `routes` and `log` print the current state in a shell, as text and as JSON."""
    run_checked: Callable[..., str] = mesh_lab.run_checked
    file = tmp_path / "canary.yaml"
    file.write_text(weighted_routes(100, 0))
    assert run_checked("mesh", "apply", str(file)).strip() == "VirtualService/order configured"
    assert run_checked("mesh", "apply", str(file)).strip() == "VirtualService/order unchanged"
    assert "weight: 100" in run_checked("mesh", "show", "virtualservice/order")
    assert "kind: Gateway" in run_checked("mesh", "show")
    assert mesh_lab.run("mesh", "show", "nobody").returncode == 1
    assert "Configured by" in run_checked("mesh", "routes")
    assert '"name": "order"' in run_checked("mesh", "routes", "--json")
    run_checked("mesh", "reset")
    assert "weighted_clusters" in run_checked("mesh", "diff")
    send_requests(mesh_lab.lab.endpoints.gateway, "/orders?limit=1", 1)
    assert wait_until(lambda: "/orders?limit=1" in run_checked("mesh", "log", "--json"), 5)
    assert "flags" in run_checked("mesh", "log")


def test_routes_and_log_show_brackets(mesh_lab: LabHarness) -> None:
    """Regular expressions of routes and the queries of requests are printed with their brackets."""
    rule = '  - {match: [{uri: {regex: "/(orders|order)/[/a-z]+"}}], route: [{destination: {host: order}}]}'
    mesh_lab.lab.mesh.apply(virtual_service(rule, "brackets"))
    http.get(f"{mesh_lab.lab.endpoints.gateway}/orders?filter[status]=PAID")

    def printed(*words: str) -> str:
        return mesh_lab.run_checked("mesh", *words, COLUMNS="300")

    assert "/(orders|order)/[/a-z]+" in printed("routes")
    wait_until(lambda: "filter[status]=PAID" in printed("log"), 20)
