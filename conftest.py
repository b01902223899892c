"""Whoever runs `pytest --nbval notebooks/` by hand finds the lab afterwards as it was before: running, or not."""

from __future__ import annotations

import pytest

_was_stopped = pytest.StashKey[bool]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Look whether there is a lab already, if notebooks are about to run."""
    option = session.config.option
    if getattr(option, "nbval", False) or getattr(option, "nbval_lax", False):
        from labstack import Lab

        session.config.stash[_was_stopped] = Lab().status(memory=False).state == "stopped"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the lab that the notebooks have started."""
    if session.config.stash.get(_was_stopped, False):
        from labstack import Lab

        Lab().down()
