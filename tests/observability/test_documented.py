"""docs/metrics.md matches the metrics that the lab exposes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from labkit import Session
from labstack.clients import http
from labstack.lab import access_of
from labstack.waiting import wait_until

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(\w+)` \| (counter|gauge|histogram) \|([\w, ]*)\|")
OF_PYTHON = ("python_", "process_")
Families = dict[str, tuple[str, frozenset[str]]]
"""Type and labels of each metric, by name."""


def documented(job: str) -> Families:
    """Return the metrics in the table of a job."""
    section = re.search(rf"^## [^\n]*job `{job}`\n(.*?)(?=^## )", DOCS.read_text(encoding="utf-8"), re.M | re.S)
    assert section, job
    return {
        name: (kind, frozenset(filter(None, (label.strip() for label in labels.split(",")))))
        for name, kind, labels in ROW.findall(section[1])
    }


def exposed(*urls: str) -> Families:
    """Return the exposed metrics; the labels of a family without samples are unknown."""
    found: Families = {}
    for url in urls:
        for family in text_string_to_metric_families(http.get(url).text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (family.type, found.get(name, ("", frozenset()))[1] | labels)
    return found


def test_the_services_metrics_are_documented(session: Session) -> None:
    """The table lists exactly the metrics of the four services, with their types and labels."""
    shop = session.shop
    for customer in ("ada", "nobody"):
        shop.follow(shop.place_order(customer, "lisbon", {"earl-grey": 1}))
    urls = [f"{url}/metrics" for url in session.lab.endpoints.services.values()]
    expected = documented("services")

    def differences() -> Families:
        now = {name: what for name, what in exposed(*urls).items() if not name.startswith(OF_PYTHON)}
        if not now["fault_switch_active"][1]:  # no fault switch is on, so the labels are unknown
            now["fault_switch_active"] = expected["fault_switch_active"]
        return dict(set(now.items()) ^ set(expected.items()))

    assert wait_until(lambda: not differences(), 10), differences()


def test_no_time_series_begins_with_an_event(reset_session: Session) -> None:
    """A service that has just started exposes each time series at 0, so that `increase` counts its first event."""
    lab, shop, look, _ = reset_session

    def series() -> set[tuple[str, ...]]:
        return {
            (service, sample.name, *sorted(f"{name}={value}" for name, value in sample.labels.items()))
            for service, url in lab.endpoints.services.items()
            for family in text_string_to_metric_families(http.get(f"{url}/metrics").text)
            if family.type in ("counter", "histogram") and not family.name.startswith(OF_PYTHON)
            for sample in family.samples
            if sample.labels.get("route", "/orders").startswith("/orders")
        }

    for service in lab.endpoints.services:
        lab.stop(service)
        lab.start(service)
    before = series()
    orders = [shop.place_order(customer, "lisbon", {"earl-grey": 1}) for customer in ("ada", "nobody")]
    assert [shop.follow(order).status for order in orders] == ["COMPLETED", "CANCELLED"]
    look.wait_for_rest(orders)
    order = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]}
    key = {"Idempotency-Key": "twice"}
    url = f"{lab.endpoints.services['order']}/orders"
    assert [http.request("POST", url, json=order, headers=key).status_code for _ in range(2)] == [201, 200]
    assert series() - before == set()


def test_the_relays_metrics_are_documented(session: Session) -> None:
    """The table lists exactly the metrics of the connect-watcher, with their types and labels."""
    now = exposed(f"http://127.0.0.1:{access_of(session.lab).backend().component('connect-watcher').port}/metrics")
    ours = {name: what for name, what in now.items() if not name.startswith(OF_PYTHON)}
    # These exist only after a connector was left failed, and where the databases have standbys.
    for name in ("connect_watcher_left_failed", "postgres_replication_slot_copied"):
        ours[name] = documented("relay")[name]
    assert ours == documented("relay")


@pytest.mark.parametrize("job", ["kafka", "connect", "gateway"])
@pytest.mark.needs("prometheus")
def test_stored_metrics_of_other_components_are_documented(session: Session, job: str) -> None:
    """Prometheus has each metric of the table, with its labels, and no other metric of the Java agent."""
    session.shop.follow(session.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
    session.look.metrics.now()
    for name, (kind, labels) in documented(job).items():
        query = f'{name}{"_count" if kind == "histogram" else ""}{{job="{job}"}}'
        series = session.look.metrics.query(
            f"last_over_time({query}[30s])"
        )  # one slow scrape omits all metrics of a job
        assert labels <= set(series.columns), name
    if job != "gateway":
        query = f'{{job="{job}", __name__=~"(kafka|connect|debezium)_.*"}}'
        names = session.look.metrics.query(f"count by (__name__) (last_over_time({query}[30s]))")
        assert set(names["__name__"]) == set(documented(job))


def test_every_alert_is_documented() -> None:
    """The table lists exactly the alerts of the rules."""
    rules = yaml.safe_load((DOCS.parents[1] / "lab-stack/prometheus/alerting.rules.yml").read_text(encoding="utf-8"))
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    section = DOCS.read_text(encoding="utf-8").split("## Rules")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.M)) == names
