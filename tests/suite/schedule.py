"""Which tests run one after the other on one worker, in which order, and with which lab.

A running lab takes a quarter of a core even when it is idle, and ten seconds to start. So the tests that share a lab
form groups of a few minutes. A worker starts the lab for the first test of a group and stops it after the last.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from tests.suite.seconds import Seconds

if TYPE_CHECKING:
    from labstack import Lab

PLAIN, COURSE = "plain lab", "course lab"
GROUP_SECONDS = 150.0
"""A group of tests that share a lab takes about as long."""

releases: dict[str, Callable[[], None]] = {}
"""How the lab of a pool is stopped on this worker, once it was started."""


def pool_of(item: pytest.Item | None) -> str | None:
    """Return the pool whose lab a test shares with others, if it shares one."""
    names = getattr(item, "fixturenames", ())
    if "_shared" in names:
        return PLAIN
    return COURSE if "course_lab" in names or is_cell(item) else None


def is_cell(item: pytest.Item | None) -> bool:
    """Return whether a test is a cell of a notebook."""
    return item is not None and item.path.suffix == ".ipynb"


def has_own_lab(item: pytest.Item) -> bool:
    """Return whether a test starts a lab that no other test uses."""
    return "make_grounds" in getattr(item, "fixturenames", ())


def unit_of(item: pytest.Item) -> str:
    """Return the name of what stays together: a notebook, a file's tests that share a lab, a test with its own lab."""
    file = item.nodeid.partition("::")[0]
    if pool := pool_of(item):
        return f"{file} {pool}"
    if not has_own_lab(item):
        return file
    return item.nodeid.translate({ord("["): "(", ord("]"): ")"})  # xdist does not expect brackets in a group's name


def arrange(items: Sequence[pytest.Item], seconds: Seconds) -> list[tuple[str, list[pytest.Item]]]:
    """Return groups of tests, each with its name; the longest first, so that the workers end together.

    Parameters
    ----------
    items : sequence of Item
        The tests of this run.
    seconds : Seconds
        How long each test takes.
    """
    units: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        marker = item.get_closest_marker("xdist_group")
        units[marker.args[0] if marker else unit_of(item)].append(item)
    cost = {name: sum(seconds.of(item.nodeid) for item in unit) for name, unit in units.items()}
    pools: dict[str | None, list[str]] = defaultdict(list)
    for name, unit in units.items():
        pools[pool_of(unit[0])].append(name)
    groups = {name: (cost[name], units[name]) for name in pools.pop(None, [])}
    for pool, members in pools.items():
        number = max(1, math.ceil(sum(cost[name] for name in members) / GROUP_SECONDS))
        bins: list[list[str]] = [[] for _ in range(number)]
        for name in sorted(members, key=lambda name: -cost[name]):
            min(bins, key=lambda some: sum(cost[name] for name in some)).append(name)
        for place, some in enumerate(bins, start=1):
            tests = [item for name in members if name in some for item in units[name]]
            if tests:
                groups[f"{pool} {place}"] = sum(cost[name] for name in some), tests
    return [(name, tests) for name, (_, tests) in sorted(groups.items(), key=lambda entry: (-entry[1][0], entry[0]))]


def release_labs(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop the lab that a test has used if the next test of this worker does not use it, too."""
    pool = pool_of(item)
    if pool and pool != pool_of(nextitem) and (release := releases.pop(pool, None)):
        release()


def note_course_lab() -> None:
    """See to it that the lab of LAB_NAME is stopped after its group, if it is stopped now."""
    if COURSE in releases:
        return
    from labstack import Lab

    was_running = Lab().status(memory=False).state != "stopped"
    releases[COURSE] = (lambda: None) if was_running else (lambda: Lab().down())


def start_course_lab() -> Lab:
    """Return the lab of LAB_NAME; start it if this is its group's first test."""
    from labstack import Lab

    is_first = COURSE not in releases
    note_course_lab()
    lab = Lab()
    if is_first:
        lab.up()
    return lab


PROGRAMS = {"09-metrics-and-promql": "prometheus"}
"""The program without which a notebook cannot run."""


def skip_without_program(item: pytest.Item) -> None:
    """Skip the cells of a notebook whose program is not on this machine."""
    if program := PROGRAMS.get(item.path.stem):
        from labstack.install import find_program
        from labstack.paths import LabPaths

        if not find_program(program, LabPaths.of_user()) and not _may_still_come(item, program):
            pytest.skip(f"NOT RUN: there is no {program} on this machine; `lab install {program}` gets it")


def _may_still_come(item: pytest.Item, program: str) -> bool:
    """Whether the notebook's first cell, which obtains the program, is about to run or has not given up."""
    from labstack import Lab, observers, obtaining

    if not observers.may_be_fetched():
        return False
    step = obtaining.steps(Lab().paths).get(program)
    return item.name.endswith("Cell 0") or (step is not None and not step.is_settled)


def set_environment(item: pytest.Item, as_called: str | None) -> None:
    """Set what the labs of a test run beside: Prometheus and Jaeger only where they are looked at, and installed ones.

    Parameters
    ----------
    item : Item
        The test that is about to run.
    as_called : str, optional
        LAB_OBSERVABILITY as pytest was called with it.
    """
    if item.nodeid.startswith(("tests/stack", "tests/benchmarks")):
        os.environ["LAB_OBSERVABILITY"] = "off"
    elif as_called is None and item.nodeid.startswith("tests/"):
        os.environ["LAB_OBSERVABILITY"] = "installed"
    elif as_called is None:
        os.environ.pop("LAB_OBSERVABILITY", None)
    else:
        os.environ["LAB_OBSERVABILITY"] = as_called
