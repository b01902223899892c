"""Alertmanager receives the alerts that Prometheus raises, and mutes those that another alert explains."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from labkit import Session
from labkit.sources.alertmanager import AlertmanagerClient, NoAlertmanager
from labkit.waiting import wait_until
from labstack.config.paths import CONFIG
from labstack.gateway.addresses import Addresses
from labstack.observability.prometheus import ALERTMANAGERS, discovery

needs_alertmanager = pytest.mark.needs("prometheus", "alertmanager")


def read(path: str) -> Any:
    return yaml.safe_load((CONFIG / path).read_text(encoding="utf-8"))


def states(session: Session) -> dict[str, set[str]]:
    """Return the states of the alerts in Alertmanager, by name."""
    found = session.look.metrics.alertmanager.alerts()
    return {alert: set(found[found.alert == alert].state) for alert in found.alert}


@needs_alertmanager
def test_one_alert_notifies_while_connect_is_down(session: Session) -> None:
    """While Connect is down, TargetDown goes to the pager and mutes the other alerts; all are resolved afterwards."""
    explained = {"DebeziumNotConnected": {"suppressed"}, "SlotRetainsWal": {"suppressed"}}
    wanted = {**explained, "TargetDown": {"active"}}
    wait_until(lambda: explained.keys().isdisjoint(states(session)), 90, what="earlier alerts to be resolved")
    try:
        session.lab.stop("connect")
        wait_until(lambda: wanted.items() <= states(session).items(), 90, what="the alerts to be received and muted")
        alerts = session.look.metrics.alertmanager.alerts()
        assert set(alerts[alerts.alert == "TargetDown"].receiver) == {"pager"}
    finally:
        session.lab.start("connect")
    wait_until(lambda: wanted.keys().isdisjoint(states(session)), 90, what="the alerts to be resolved")


@needs_alertmanager
def test_a_restarted_alertmanager_receives_the_alerts_that_still_fire(session: Session) -> None:
    """After a kill and a start, an alert that fires is in Alertmanager again, and its log can be read."""

    def is_received() -> bool:
        return "TargetDown" in states(session)

    try:
        session.lab.stop("shipping")
        wait_until(is_received, 90, what="TargetDown to be received")
        session.lab.faults.kill("alertmanager")
        assert session.lab.status().components["alertmanager"].state == "failed"
        with pytest.raises(NoAlertmanager, match="doesn't answer"):
            states(session)
        session.lab.start("alertmanager")
        wait_until(is_received, 90, what="TargetDown to be received again")
    finally:
        session.lab.start("shipping")
        session.lab.start("alertmanager")
    wait_until(lambda: not is_received(), 90, what="the alert to be resolved")


def test_lab_without_alertmanager_names_the_next_step() -> None:
    """Without Alertmanager, the client names the command that installs it, and Prometheus sends alerts nowhere."""
    with pytest.raises(NoAlertmanager, match="lab install alertmanager"):
        AlertmanagerClient("").alerts()
    nowhere = Addresses(0, "", {})
    assert yaml.safe_load(discovery(nowhere, "")[ALERTMANAGERS]) == []
    assert yaml.safe_load(discovery(nowhere, "host:9093")[ALERTMANAGERS]) == [{"targets": ["host:9093"]}]


def test_the_configuration_names_existing_alerts_and_receivers() -> None:
    """Each alert of an inhibition rule is an alerting rule, and each route has an existing receiver."""
    configuration = read("alertmanager/alertmanager.yml")
    alerts = {rule["alert"] for group in read("prometheus/alerting.rules.yml")["groups"] for rule in group["rules"]}
    rules = configuration["inhibit_rules"]
    matchers = [matcher for rule in rules for side in ("source", "target") for matcher in rule[f"{side}_matchers"]]
    named = [re.search(r'alertname =~? "(.*)"', matcher) for matcher in matchers]
    assert {name for found in named if found for name in found[1].split("|")} <= alerts
    receivers = {receiver["name"] for receiver in configuration["receivers"]}
    route = configuration["route"]
    assert {one["receiver"] for one in (route, *route["routes"])} == receivers
