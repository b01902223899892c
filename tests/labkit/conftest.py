from __future__ import annotations

from collections.abc import Iterator

import pytest

from labkit import Session, begin
from labstack import Lab


@pytest.fixture(scope="session")
def running_lab() -> Iterator[Lab]:
    """The lab named by LAB_NAME: attached to if it runs, else started, and then ended again."""
    lab = Lab()
    was_running = lab.status(memory=False).state != "stopped"
    lab.up()
    yield lab
    if not was_running:
        lab.down()


@pytest.fixture
def session(running_lab: Lab) -> Session:
    """What a notebook works with, with names of its own."""
    return begin("00", running_lab)
