from __future__ import annotations

import pytest

from labkit import Session, begin
from labstack import Lab


@pytest.fixture
def running_lab(course_lab: Lab) -> Lab:
    """The course's lab, running."""
    return course_lab


@pytest.fixture
def session(running_lab: Lab) -> Session:
    """What a notebook works with, with names of its own."""
    return begin("00", running_lab)
