"""The course's lab with all observers; each test heals what it broke."""

from __future__ import annotations

import pytest

from labkit import Session, begin
from labstack import Lab
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
