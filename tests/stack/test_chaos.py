"""Orders under faults: every order reaches its expected outcome, and no invariant is violated."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.stack.chaos import RECOVERY_SECONDS, save_evidence, soak
from tests.stack.crowd import RETRY_SECONDS
from tests.stack.labs import LabHarness
from tests.suite.chance import LONG, SEED

ORDERS = int(os.environ.get("SAGA_LAB_SOAK_ORDERS") or 10_000) if LONG else 300
RATE = 10.0 if LONG else 6.0


@pytest.mark.long
@pytest.mark.timeout(120 + ORDERS / RATE * 1.5 + RETRY_SECONDS + 6 * RECOVERY_SECONDS)
def test_soak_ends_without_complaints(
    make_harness: Callable[..., LabHarness], capsys: pytest.CaptureFixture[str]
) -> None:
    """A soak with a fault every few seconds ends without complaints from the customers or the referee."""
    harness = make_harness("chaos")
    harness.lab.up()
    report = soak(harness, ORDERS, RATE, 7.0, SEED)
    with capsys.disabled():
        print(f"\n{report.summary()}")
    assert report.complaints == [], f"evidence: {save_evidence(harness, report)}"
    assert len(report.faults) >= report.load_seconds / 12
