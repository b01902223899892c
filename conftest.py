"""Whoever runs `pytest --nbval notebooks/` by hand finds the lab afterwards as it was before: running, or not.

And what fails is noted for `tools/check.py`, which tells it once more at its end, where it is found; of the tests that
are marked `sampled` its short form runs a part, chosen by the seed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from pathlib import Path

import pytest

TOLD = 14
"""So many lines of a failure are told again, its last ones."""

STDERR = "The cell's stderr"

TURNS = 3
"""After so many seeds in a row every sampled test has had its turn."""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the sampled tests whose turn it is not, in `tools/check.py`'s short form; by hand all run."""
    if not os.environ.get("SAGA_LAB_CHECK") or os.environ.get("SAGA_LAB_LONG"):
        return
    sampled = [item for item in items if item.get_closest_marker("sampled")]
    turn = int(os.environ["SAGA_LAB_SEED"]) % TURNS
    waiting = {item for number, item in enumerate(sampled) if number % TURNS != turn}
    config.hook.pytest_deselected(items=list(waiting))
    items[:] = [item for item in items if item not in waiting]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a notebook's failed cell wrote to stderr: nbval says only that there was something."""
    report = yield
    if report.failed:
        outputs = getattr(item, "test_outputs", None) or []
        said = "".join(one.text for one in outputs if one.get("name") == "stderr")
        if said:
            report.sections.append((STDERR, said))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a failure in the file that `tools/check.py` has named."""
    if report.failed and (file := os.environ.get("SAGA_LAB_FAILURES")):
        told = [report.longreprtext, *(said for name, said in report.sections if name == STDERR)]
        plain = re.sub(r"\x1b\[\d*m", "", "\n".join(told))
        # The notebooks' areas for what differs: nbval names each of their updates, and leaves them out.
        lines = [line for line in plain.splitlines() if line.strip() and "unhandled iopub msg" not in line]
        with Path(file).open("a", encoding="utf-8") as notes:
            print(f"--- {report.nodeid} ({report.when})", *lines[-TOLD:], sep="\n", file=notes)
