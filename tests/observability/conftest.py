"""The course's lab with all observers; each test heals what it broke."""

from __future__ import annotations

import pytest

from labkit import Session, begin
from labstack import Lab
from labstack.install import find_program
from labstack.lab import access_of
from tests.stack.labs import LabHarness


@pytest.fixture
def running_lab(course_lab: Lab) -> LabHarness:
    """The lab, with all components running and no orders in flight."""
    harness = LabHarness.of(course_lab)
    harness.make_ready()
    return harness


@pytest.fixture
def lab(running_lab: LabHarness) -> Lab:
    """The same lab, as the object that a notebook has."""
    return running_lab.lab


@pytest.fixture
def session(lab: Lab) -> Session:
    """The session that a notebook works with."""
    return begin("09", lab)


@pytest.fixture
def reset_session(lab: Lab) -> Session:
    """The same session, on a lab with its baseline data."""
    lab.reset()
    return begin("09", lab)


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Skip a test whose program is not installed, before anything else of the test runs."""
    marker = request.node.get_closest_marker("needs")
    for name in marker.args if marker else ():
        if find_program(name, access_of(Lab()).paths) is None:
            pytest.skip(f"NOT RUN: there is no {name} on this machine; `lab install {name}` gets it")
