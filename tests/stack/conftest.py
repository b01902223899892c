"""One lab for all tests that leave it whole, labs of their own for the others, and a look at the end that nothing is
left.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.sample import LONG, SEED
from tests.stack.labs import Grounds

_made: list[Grounds] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-kills", action="store_true", help="kill every component in turn, not two of them (also: SAGA_LAB_LONG=1)"
    )


def pytest_report_header() -> str:
    return f"seed {SEED} (repeat with SAGA_LAB_SEED={SEED})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that asks for `victim` run for two components, chosen by the seed, or for all."""
    from tests.stack.labs import COMPONENTS

    if "victim" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-kills", default=False) or LONG
        victims = COMPONENTS if every else random.Random(SEED).sample(COMPONENTS, 2)
        metafunc.parametrize("victim", victims)


@pytest.fixture(scope="session")
def _shared() -> Iterator[Grounds]:
    grounds = Grounds("shared")
    _made.append(grounds)
    try:
        grounds.must("up")
        yield grounds
    finally:
        grounds.close()


@pytest.fixture
def shared(_shared: Grounds) -> Grounds:
    """Give the lab that all tests share, ready; what the test before broke is mended."""
    _shared.make_ready()
    return _shared


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
    for grounds in _made:
        assert grounds.processes() == []
        assert grounds.in_docker() == []
        assert not grounds.own_home or not grounds.home.exists()
