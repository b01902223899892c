"""The rights of programs and foreign web pages at the ports of a running lab (docs/security.md)."""

from __future__ import annotations

import psutil

from labstack.clients import http
from tests.stack.labs import LabHarness

FOREIGN = {"Origin": "http://evil.example"}
ELSEWHERE = {"Host": "evil.example"}


def test_every_port_is_bound_to_this_machine(shared: LabHarness) -> None:
    """Every port of every process of the lab listens on a loopback address."""
    pids = {process.pid for process in shared.processes()}
    listening = [one for one in psutil.net_connections("inet") if one.status == psutil.CONN_LISTEN and one.pid in pids]
    assert len(listening) >= len(shared.pids())
    assert {one.laddr.ip for one in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}  # type: ignore[union-attr]


def test_foreign_pages_change_nothing_at_any_port(shared: LabHarness) -> None:
    """A POST of a foreign page to the services, the gateway and Envoy's administration is 403."""
    where = shared.lab.endpoints
    urls = [f"{url}/manage/consumer/pause" for url in where.services.values()]
    urls += [f"{where.gateway}/orders", f"{where.envoy_admin}/quitquitquit", f"{where.envoy_admin}/healthcheck/fail"]
    for url in urls:
        headers = {**FOREIGN, "Content-Type": "text/plain"}
        assert http.request("POST", url, headers=headers, content="{}").status_code == 403, url
        if not url.startswith(where.gateway):  # which serves every host that its Gateway document lists
            assert http.request("POST", url, headers=ELSEWHERE).status_code == 403, url
    assert shared.status()["state"] == "ready"


def test_foreign_hosts_read_nothing_from_the_labs_own_servers(shared: LabHarness) -> None:
    """A GET under a foreign name is 403 at the services, Envoy's administration and the watcher."""
    where = shared.lab.endpoints
    for url in (*where.services.values(), where.envoy_admin, where.watcher):
        assert http.get(f"{url}/orders", headers=ELSEWHERE).status_code == 403, url


def test_the_gateway_serves_the_hosts_of_its_document(shared: LabHarness) -> None:
    """The Gateway document lists every host, so the shop is available under any name."""
    assert http.get(f"{shared.lab.endpoints.gateway}/orders", headers=ELSEWHERE).status_code == 200


def test_the_gateway_does_not_lead_to_management(shared: LabHarness) -> None:
    """The gateway has no route to the services' management, health checks and metrics."""
    for path in ("/manage/consumer", "/metrics", "/healthz/ready", "/orders/../manage/consumer", "/docs"):
        assert http.get(f"{shared.lab.endpoints.gateway}{path}").status_code == 404


def test_the_api_of_connect_changes_neither_log_levels_nor_clients(shared: LabHarness) -> None:
    """Connect's REST API has no administration, and rejects a connector that overrides its Kafka client."""
    connect = shared.lab.endpoints.connect
    assert http.get(f"{connect}/admin/loggers").status_code == 404
    config = http.get(f"{connect}/connectors/order-outbox/config").json()
    config["producer.override.linger.ms"] = "5"
    answer = http.request(
        "PUT", f"{connect}/connector-plugins/{config['connector.class']}/config/validate", json=config, timeout=60
    )
    assert "producer.override.linger.ms" in answer.text
    assert answer.json()["error_count"] > 0
