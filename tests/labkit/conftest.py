from __future__ import annotations

import pytest

from labkit import Session, begin
from labstack import Lab


@pytest.fixture
def running_lab(course_lab: Lab) -> Lab:
    """The running lab of the course."""
    return course_lab


@pytest.fixture
def session(running_lab: Lab) -> Session:
    """The objects that a notebook works with, with separate short names for orders."""
    return begin("00", running_lab)
