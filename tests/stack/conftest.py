"""One lab for all tests that leave it intact, separate labs for the others, and a final check that nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.stack.labs import COMPONENTS, LabHarness
from tests.suite import schedule
from tests.suite.chance import SEED, short_sample

_made: list[LabHarness] = []


def pytest_report_header() -> str:
    return f"seed {SEED} (repeat with SAGA_LAB_SEED={SEED})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `killed_component` for one component, chosen by the seed; the long form runs it for all."""
    if "killed_component" in metafunc.fixturenames:
        metafunc.parametrize("killed_component", short_sample(COMPONENTS, 1))


DEADLINE = {"LAB_ORDER_DEADLINE_SECONDS": "3600"}


@pytest.fixture(autouse=True)
def _long_order_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a long deadline, so that a slow host cancels no order; a test of the deadline sets its own."""
    for name, value in DEADLINE.items():
        monkeypatch.setenv(name, value)


_running: list[LabHarness] = []
"""The running lab that this worker's tests share."""


def _release() -> None:
    _running.pop().close()


def _start() -> LabHarness:
    if not _running:
        harness = LabHarness("shared", environment=DEADLINE)
        _made.append(harness)
        _running.append(harness)
        schedule.releases[schedule.PLAIN] = _release
        harness.run_checked("up")
    return _running[0]


@pytest.fixture(scope="session")
def _shared() -> Callable[[], LabHarness]:
    """Return the function that returns the shared lab; for the first test of a group, it starts the lab."""
    return _start


@pytest.fixture
def shared(_shared: Callable[[], LabHarness]) -> LabHarness:
    """Return the lab that the tests of a group share, ready, and repaired if the previous test broke it."""
    harness = _shared()
    harness.make_ready()
    return harness


@pytest.fixture
def make_harness() -> Iterator[Callable[..., LabHarness]]:
    """Make labs that are closed after the test."""
    made: list[LabHarness] = []

    def make(*arguments: object, **keywords: object) -> LabHarness:
        harness = LabHarness(*arguments, **keywords)  # type: ignore[arg-type]  # passed on as they are
        made.append(harness)
        _made.append(harness)
        return harness

    yield make
    for harness in reversed(made):
        harness.close()


@pytest.fixture
def harness(make_harness: Callable[..., LabHarness]) -> LabHarness:
    """Return a lab that has never run."""
    return make_harness()


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> Iterator[None]:
    """Check after the session that no process, container or folder of any lab of these tests is left."""
    yield
    if release := schedule.releases.pop(schedule.PLAIN, None):
        release()
    for harness in _made:
        assert harness.processes() == []
        assert harness.docker_resources() == []
        assert not harness.own_home or not harness.home.exists()
