"""One lab for all tests that leave it intact, separate labs for the others, and a final check that nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.stack.labs import COMPONENTS, Grounds
from tests.suite import schedule
from tests.suite.chance import SEED, short_sample

_made: list[Grounds] = []


def pytest_report_header() -> str:
    return f"seed {SEED} (repeat with SAGA_LAB_SEED={SEED})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the argument `victim` for one component, chosen by the seed; the long form runs it for all."""
    if "victim" in metafunc.fixturenames:
        metafunc.parametrize("victim", short_sample(COMPONENTS, 1))


DEADLINE = {"ORDER_DEADLINE_SECONDS": "3600"}


@pytest.fixture(autouse=True)
def _patient_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a long deadline, so that a slow host cancels no order; a test of the deadline sets its own."""
    for name, value in DEADLINE.items():
        monkeypatch.setenv(name, value)


_running: list[Grounds] = []
"""The running lab that this worker's tests share."""


def _release() -> None:
    _running.pop().close()


def _start() -> Grounds:
    if not _running:
        grounds = Grounds("shared", environment=DEADLINE)
        _made.append(grounds)
        _running.append(grounds)
        schedule.releases[schedule.PLAIN] = _release
        grounds.must("up")
    return _running[0]


@pytest.fixture(scope="session")
def _shared() -> Callable[[], Grounds]:
    """Return the function that returns the shared lab; for the first test of a group, it starts the lab."""
    return _start


@pytest.fixture
def shared(_shared: Callable[[], Grounds]) -> Grounds:
    """Return the lab that the tests of a group share, ready, and repaired if the previous test broke it."""
    grounds = _shared()
    grounds.make_ready()
    return grounds


@pytest.fixture
def make_grounds() -> Iterator[Callable[..., Grounds]]:
    """Make labs that are closed after the test."""
    made: list[Grounds] = []

    def make(*arguments: object, **keywords: object) -> Grounds:
        grounds = Grounds(*arguments, **keywords)  # type: ignore[arg-type]  # passed on as they are
        made.append(grounds)
        _made.append(grounds)
        return grounds

    yield make
    for grounds in reversed(made):
        grounds.close()


@pytest.fixture
def grounds(make_grounds: Callable[..., Grounds]) -> Grounds:
    """Return a lab that has never run."""
    return make_grounds()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Check after the session that no process, container or folder of any lab of these tests is left."""
    yield
    if release := schedule.releases.pop(schedule.PLAIN, None):
        release()
    for grounds in _made:
        assert grounds.processes() == []
        assert grounds.in_docker() == []
        assert not grounds.own_home or not grounds.home.exists()
