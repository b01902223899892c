"""The rules, checked by Prometheus's own tool: all are valid, and all are tested on artificial series."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from labstack.config.paths import LabPaths
from labstack.observability import prometheus
from labstack.observability.prometheus import FOLDER, RULES

CASES = sorted((FOLDER / "tests").glob("*.yml"))
pytestmark = pytest.mark.needs("prometheus")


def promtool() -> str:
    program = prometheus.promtool(LabPaths.of_user())
    return str(program) if program else pytest.skip("there is no promtool beside Prometheus")


def rules() -> list[dict[str, str]]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob(RULES))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def test_prometheus_accepts_the_rules() -> None:
    """Prometheus accepts each file of rules."""
    files = sorted(str(path) for path in FOLDER.glob(RULES))
    done = subprocess.run([promtool(), "check", "rules", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_rules_fire_as_expected(case: Path) -> None:
    """On artificial series, each rule fires when it should, and not before."""
    done = subprocess.run([promtool(), "test", "rules", str(case)], capture_output=True, text=True, cwd=case.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_firing_and_a_silent_case() -> None:
    """Each alert has a test case in which it fires, and one in which it doesn't."""
    covered: dict[str, set[bool]] = {}
    for case in CASES:
        for test in yaml.safe_load(case.read_text())["tests"]:
            for one in test.get("alert_rule_test", []):
                covered.setdefault(one["alertname"], set()).add(bool(one.get("exp_alerts")))
    assert covered == {rule["alert"]: {True, False} for rule in rules() if "alert" in rule}


def test_each_alert_has_severity_cause_and_next_step() -> None:
    """An alert has a severity, a cause and the next step; a recorded series has a name with three parts."""
    for rule in rules():
        if "record" in rule:
            assert re.fullmatch(r"[a-z]+:[a-z0-9_]+:[a-z0-9_]+", rule["record"])
        else:
            assert rule["labels"]["severity"] in ("page", "ticket")  # type: ignore[index]
            assert len(rule["annotations"]["description"]) > 60  # type: ignore[index]
