"""Group the tests by lab, and order the groups for the workers.

An idle lab uses a quarter of a core, and its startup and shutdown take 24 s of a core. So the tests that share a lab
form few groups, of half a worker's share of the run. A worker starts the lab for the first test of a group and stops it
after the last.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from labstack.lab import access_of
from tests.suite.chance import LONG
from tests.suite.seconds import Seconds

if TYPE_CHECKING:
    from labstack import Lab

PLAIN, COURSE = "plain lab", "course lab"
GROUP_SECONDS = (150.0, 450.0)
"""Minimum and maximum of the approximate duration in seconds of a group of tests that share a lab."""

QUICK = ("tests/datasets/", "tests/deploy/", "tests/mesh/", "tests/services/")
QUICK_SECONDS = 150.0
"""The suites whose tests need no lab, and the limit of each test in seconds; the slowest takes about 30."""

releases: dict[str, Callable[[], None]] = {}
"""Functions that stop this worker's running labs, by pool."""


def pool_of(item: pytest.Item | None) -> str | None:
    """Return the pool whose lab a test shares with others, or `None`."""
    names = getattr(item, "fixturenames", ())
    if "_shared" in names:
        return PLAIN
    return COURSE if "course_lab" in names or is_cell(item) else None


def is_cell(item: pytest.Item | None) -> bool:
    """Report whether a test is a cell of a notebook."""
    return item is not None and item.path.suffix == ".ipynb"


def has_own_lab(item: pytest.Item) -> bool:
    """Report whether a test starts a lab that no other test uses."""
    return "make_harness" in getattr(item, "fixturenames", ())


def unit_of(item: pytest.Item) -> str:
    """Return the name of a test's unit: its notebook, its file's tests with the same lab, or itself if it has a lab."""
    file = item.nodeid.partition("::")[0]
    if pool := pool_of(item):
        return f"{file} {pool}"
    if not has_own_lab(item):
        return file
    return item.nodeid.translate({ord("["): "(", ord("]"): ")"})  # xdist does not expect brackets in a group's name


def group_seconds(total: float, workers: int) -> float:
    """Return the approximate duration in seconds of a group: half of a worker's share of a run.

    A longer group would leave the other workers without tests at the end. A shorter one would start another lab.

    Examples
    --------
    >>> [group_seconds(total, 3) for total in (60, 2400, 36000)]
    [150.0, 400.0, 450.0]
    """
    least, most = GROUP_SECONDS
    return min(max(total / workers / 2, least), most)


def arrange(items: Sequence[pytest.Item], seconds: Seconds, workers: int = 1) -> list[tuple[str, list[pytest.Item]]]:
    """Return named groups of tests, the longest first, so that the workers finish together.

    Parameters
    ----------
    items : sequence of Item
        The tests of this run.
    seconds : Seconds
        Expected duration of each test.
    workers : int
        Number of workers among which the groups are distributed.
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
    limit = group_seconds(sum(cost.values()), workers)
    for pool, members in pools.items():
        number = max(1, math.ceil(sum(cost[name] for name in members) / limit))
        bins: list[list[str]] = [[] for _ in range(number)]
        for name in sorted(members, key=lambda name: -cost[name]):
            min(bins, key=lambda some: sum(cost[name] for name in some)).append(name)
        for place, some in enumerate(bins, start=1):
            tests = [item for name in members if name in some for item in units[name]]
            if tests:
                groups[f"{pool} {place}"] = sum(cost[name] for name in some), tests
    return [(name, tests) for name, (_, tests) in sorted(groups.items(), key=lambda entry: (-entry[1][0], entry[0]))]


def limit_time(items: Sequence[pytest.Item]) -> None:
    """Limit the time of tests without a lab, so that a defect which makes one hang does not cost the general limit."""
    for item in items:
        if item.nodeid.startswith(QUICK) and not LONG and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(QUICK_SECONDS))


def release_labs(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop the lab of a test unless the next test of this worker uses it."""
    pool = pool_of(item)
    if pool and pool != pool_of(nextitem) and (release := releases.pop(pool, None)):
        release()


def release_all_labs() -> None:
    """Stop the shared labs that still run at the end of a session, because it was interrupted."""
    while releases:
        _, release = releases.popitem()
        release()


def note_course_lab() -> None:
    """Schedule the lab of LAB_NAME to stop after its group, if it is stopped now."""
    if COURSE in releases:
        return
    from labstack import Lab

    was_running = Lab().status(memory=False).state != "stopped"
    releases[COURSE] = (lambda: None) if was_running else (lambda: Lab().down())


def start_course_lab() -> Lab:
    """Return the lab of LAB_NAME. Start it for the first test of its group."""
    from labstack import Lab

    is_first = COURSE not in releases
    note_course_lab()
    lab = Lab()
    if is_first:
        lab.up()
    return lab


PROGRAMS = {"09-metrics-and-promql": "prometheus"}
"""The program that a notebook requires, by the notebook's name."""


def skip_without_programs(item: pytest.Item) -> None:
    """Skip a test marked with ``needs``, or a notebook's cell, if a program that it needs is not installed."""
    marker = item.get_closest_marker("needs")
    notebooks = [PROGRAMS[item.path.stem]] if is_cell(item) and item.path.stem in PROGRAMS else []
    for program in marker.args if marker else notebooks:
        from labstack.config.paths import LabPaths
        from labstack.install import find_program

        if find_program(program, LabPaths.of_user()):
            continue
        if not (is_cell(item) and _may_be_installed_later(item, program)):
            pytest.skip(f"NOT RUN: {program} is not installed; `lab install {program}` installs it")


def _may_be_installed_later(item: pytest.Item, program: str) -> bool:
    """Report whether the notebook's first cell, which installs the program, is about to run or still trying."""
    from labstack import Lab
    from labstack.lifecycle import obtaining
    from labstack.observability import observers

    if not observers.downloads_allowed():
        return False
    step = obtaining.steps(access_of(Lab()).paths).get(program)
    return item.name.endswith("Cell 0") or (step is not None and not step.is_settled)


def set_environment(item: pytest.Item, as_called: str | None) -> None:
    """Set LAB_OBSERVABILITY for a test, so that its lab runs observers only where tests use them.

    The suites ``stack`` and ``benchmarks`` run without observers. Other tests use the value with which pytest started.
    Without one, tests use only installed observers, and notebooks use the lab's default.

    Parameters
    ----------
    item : Item
        The test that is about to run.
    as_called : str, optional
        The value of LAB_OBSERVABILITY when pytest started.
    """
    if item.nodeid.startswith(("tests/stack", "tests/benchmarks")):
        os.environ["LAB_OBSERVABILITY"] = "off"
    elif as_called is None and item.nodeid.startswith("tests/"):
        os.environ["LAB_OBSERVABILITY"] = "installed"
    elif as_called is None:
        os.environ.pop("LAB_OBSERVABILITY", None)
    else:
        os.environ["LAB_OBSERVABILITY"] = as_called
