"""One lab that is watched, for all tests; each test heals what it broke, and at the end nothing is left."""

from __future__ import annotations

import os

os.environ["LAB_OBSERVABILITY"] = "auto"  # before labs are described

from collections.abc import Iterator

import pytest

from labkit import Session, begin
from labstack import Lab
from labstack.install import find_program
from tests.stack.labs import Grounds


@pytest.fixture(scope="session")
def _watched() -> Iterator[Grounds]:
    grounds = Grounds("watched")
    try:
        grounds.must("up")
        yield grounds
    finally:
        grounds.close()
        assert grounds.processes() == []
        assert not grounds.home.exists()


@pytest.fixture
def lab(_watched: Grounds) -> Lab:
    """The lab, every part of it running, and without orders in flight."""
    _watched.make_ready()
    return _watched.lab


@pytest.fixture
def session(lab: Lab) -> Session:
    """What a notebook works with."""
    return begin("09", lab)


@pytest.fixture
def fresh(lab: Lab) -> Session:
    """The same, at the course's start."""
    lab.reset()
    return begin("09", lab)


@pytest.fixture
def without(_watched: Grounds, request: pytest.FixtureRequest) -> None:
    """Skip a test where a program can't be had that it is about, and say so."""
    marker = request.node.get_closest_marker("needs")
    for name in marker.args if marker else ():
        if find_program(name, _watched.paths) is None:
            pytest.skip(f"{name} is not on this machine: `lab install {name}`")


@pytest.fixture(autouse=True)
def _needs(without: None) -> None:
    """Look at each test's needs before anything else of it."""
