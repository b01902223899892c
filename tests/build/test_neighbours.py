"""The judge of step 4 kills Connect only if nothing else in the lab needs it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from labkit.build import task
from labkit.build.connector import neighbours
from labkit.build.connector.neighbours import alone
from labkit.errors import KitError
from labstack import Lab


def lab_with(state: Path, *running: str) -> Lab:
    """Return a lab in which these extension services run, beside one that is stopped."""
    services = SimpleNamespace(names=["stopped", *running], runs=lambda name: name in running)
    return cast(Lab, SimpleNamespace(_access=SimpleNamespace(paths=SimpleNamespace(state=state)), extensions=services))


@pytest.fixture(autouse=True)
def orders(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Replace the orders: each item says whether an order has changed just now; the last one repeats."""
    found = [False]
    monkeypatch.setattr(neighbours, "_has_orders", lambda lab: found.pop(0) if len(found) > 1 else found[0])
    monkeypatch.setattr(neighbours, "PATIENCE", 0.7)
    return found


def test_a_service_of_the_capstone_is_not_disturbed(tmp_path: Path) -> None:
    """The judge refuses while a learner's service runs, names it, and says how to stop it; its own database is none."""
    with pytest.raises(KitError, match="loyalty needs now") as caught, alone(lab_with(tmp_path, "returns1", "loyalty")):
        pytest.fail("the judge ran")
    assert "`loyalty.stop()`" in caught.value.next_step
    with alone(lab_with(tmp_path, "returns1")):
        pass


def test_orders_are_waited_for_and_then_not_disturbed(tmp_path: Path, orders: list[bool]) -> None:
    """The judge waits for the end of the last orders, and refuses if new ones keep coming."""
    orders[:] = [True, False]
    with alone(lab_with(tmp_path)):
        pass
    orders[:] = [True]
    with pytest.raises(KitError, match="orders that are placed now"), alone(lab_with(tmp_path)):
        pytest.fail("the judge ran")


def test_two_judges_do_not_run_at_once(tmp_path: Path) -> None:
    """A second judge of the step refuses while the first one runs."""
    with (
        alone(lab_with(tmp_path)),
        pytest.raises(KitError, match="Another judge of step 4 runs"),
        alone(lab_with(tmp_path)),
    ):
        pytest.fail("the second judge ran")
    with alone(lab_with(tmp_path)):
        pass


def test_only_the_connector_needs_the_lab_for_itself() -> None:
    """The judges of the other steps kill only their own processes."""
    assert task("connector").alone is alone
    assert task("outbox").alone is task("orchestrator").alone is not alone
