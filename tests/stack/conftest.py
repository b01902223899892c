"""One lab for all tests that leave it whole, labs of their own for the others, and a look at the end that nothing is
left.
"""

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
    """Run a test that asks for `victim` for one component, chosen by the seed; the long form has all of them."""
    if "victim" in metafunc.fixturenames:
        metafunc.parametrize("victim", short_sample(COMPONENTS, 1))


@pytest.fixture(autouse=True)
def _patient_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no order be called off for its age, however slow this machine is; a test of the deadline sets its own."""
    monkeypatch.setenv("ORDER_DEADLINE_SECONDS", "3600")


_running: list[Grounds] = []
"""The lab that this worker's tests share, while it runs."""


def _release() -> None:
    _running.pop().close()


def _start() -> Grounds:
    if not _running:
        grounds = Grounds("shared")
        _made.append(grounds)
        _running.append(grounds)
        schedule.releases[schedule.PLAIN] = _release
        grounds.must("up")
    return _running[0]


@pytest.fixture(scope="session")
def _shared() -> Callable[[], Grounds]:
    """Give the function that returns the shared lab; for the first test of a group it starts the lab."""
    return _start


@pytest.fixture
def shared(_shared: Callable[[], Grounds]) -> Grounds:
    """Give the lab that the tests of a group share, ready; what the test before broke is mended."""
    grounds = _shared()
    grounds.make_ready()
    return grounds


@pytest.fixture
def make_grounds() -> Iterator[Callable[..., Grounds]]:
    """Make labs that end with the test."""
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
    """Give a lab that has never run."""
    return make_grounds()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """At the end of the session no process, listening port or folder of any lab of these tests is left."""
    yield
    if release := schedule.releases.pop(schedule.PLAIN, None):
        release()
    for grounds in _made:
        assert grounds.processes() == []
        assert grounds.in_docker() == []
        assert not grounds.own_home or not grounds.home.exists()
