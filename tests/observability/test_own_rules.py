"""The rules that a learner loads into the running Prometheus."""

from __future__ import annotations

import pytest

from labkit import Session
from labkit.waiting import wait_until
from labstack.errors import NotRunning
from labstack.lifecycle.rules import InvalidRules

pytestmark = pytest.mark.needs("prometheus")

ALWAYS = """
groups:
  - name: mine
    rules:
      - {alert: AlwaysFiring, expr: vector(1), labels: {severity: ticket}}
"""


def alerts(session: Session) -> set[str]:
    return set(session.look.metrics.prometheus.rules().alert)


def test_applied_rules_are_in_force_until_they_are_reset(session: Session) -> None:
    """An applied alert fires, beside the lab's own alerts, until the rules or the lab are reset."""
    session.lab.extensions.rules.apply(ALWAYS)
    assert {"AlwaysFiring", "TargetDown"} <= alerts(session)
    wait_until(lambda: "AlwaysFiring" in set(session.look.metrics.alerts().alert), 20)
    session.lab.extensions.rules.reset()
    assert "AlwaysFiring" not in alerts(session)
    session.lab.extensions.rules.apply(ALWAYS)
    session.lab.reset()
    assert "AlwaysFiring" not in alerts(session)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALWAYS.replace("vector(1)", '"rate(up[5m"'), "parse error"),
        (ALWAYS.replace("alert:", "alarm:"), "alarm"),
        ("groups: [", "valid YAML"),
        ("alert: Mine", "no `groups`"),
    ],
)
def test_invalid_rules_are_rejected_with_the_reason(session: Session, text: str, message: str) -> None:
    """Rules that Prometheus rejects raise its reason, and leave it with the lab's own rules."""
    with pytest.raises(InvalidRules, match=message):
        session.lab.extensions.rules.apply(text)
    assert "AlwaysFiring" not in alerts(session)
    session.lab.extensions.rules.apply(ALWAYS)
    assert "AlwaysFiring" in alerts(session)
    session.lab.extensions.rules.reset()


def test_rules_need_a_running_prometheus(session: Session) -> None:
    """Without a running Prometheus, applying rules raises an error with the next step."""
    session.lab.stop("prometheus")
    try:
        with pytest.raises(NotRunning, match="Prometheus") as raised:
            session.lab.extensions.rules.apply(ALWAYS)
        assert "lab up" in raised.value.next_step
    finally:
        session.lab.start("prometheus")
