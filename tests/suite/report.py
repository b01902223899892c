"""Terminal output of the suite: progress, the expected minutes, each failure, and the cost of each suite."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

import psutil
import pytest
from rich.console import Console
from rich.table import Table

from tests.suite.seconds import Seconds, plain_id

HEARTBEAT = 20.0
"""Seconds between two progress lines."""

SLOW = 5.0
"""Seconds after which a finished test gets its own line."""

SHOWN = 40
"""Number of last lines to show of a failure at once. The end of the run shows the whole failure."""


class ProgressReport:
    """Print one line per slow test, every failure at once, and a periodic progress line.

    Replaces pytest's dots where the tests run on several workers.

    Parameters
    ----------
    config : Config
        pytest's configuration.
    seconds : Seconds
        Expected duration of each test.
    out : file, optional
        Output stream. Default: standard output.
    """

    def __init__(self, config: pytest.Config, seconds: Seconds, out: TextIO | None = None) -> None:
        self._config = config
        self._seconds = seconds
        self._out = out or sys.stdout
        self._began = time.monotonic()
        self._cpu = psutil.cpu_times()
        self._waiting: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._done = self._failed = self._skipped = self._total = 0
        self._spent = 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.took: dict[str, float] = defaultdict(float)

    # -- pytest hooks ------------------------------------------------------------------------------------------------

    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:
        """Take the list of tests from the first worker that has it, and start to print progress."""
        with self._lock:
            if self._total:
                return
            self._waiting = {plain_id(nodeid): self._seconds.of(nodeid) for nodeid in ids}
            self._total = len(self._waiting)
            self._began = time.monotonic()
        self._print(f"{self._total} tests, about {minutes(self._expected())} min")
        if os.environ.get("SAGA_LAB_SAMPLE"):
            self._print("\n".join(["this sample of the long tests:", *(f"    {name}" for name in self._waiting)]))
        threading.Thread(target=self._print_progress, name="progress", daemon=True).start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record that a test has started."""
        with self._lock:
            self._running[plain_id(nodeid)] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Record that a test and its fixtures have finished."""
        name = plain_id(nodeid)
        with self._lock:
            self._running.pop(name, None)
            if (expected := self._waiting.pop(name, None)) is not None:
                self._done += 1
                self._spent += expected
        if self.took[name] >= SLOW:
            self._print(f"{short(name)}  {self.took[name]:.0f} s")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the seconds of a test, and print a failure at once."""
        name = plain_id(report.nodeid)
        self.took[name] += report.duration
        self._skipped += report.skipped
        if report.failed:
            self._failed += 1
            self._print("\n".join(failure(report)))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Suppress pytest's dots, but keep its counts."""
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "PASSED")
        return None

    def pytest_sessionfinish(self) -> None:
        """Stop the progress lines."""
        self._stopped.set()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table of seconds per suite, and the processors' utilization."""
        wall = time.monotonic() - self._began
        self._print("")
        Console(file=self._out, width=80).print(suite_table(self.took, wall))
        self._print(f"processors busy: {busy_share(self._cpu):.0%} of {psutil.cpu_count()}")

    # -- printing ----------------------------------------------------------------------------------------------------

    def _expected(self) -> float:
        """Return the expected seconds for the remaining tests. After a minute, use the pace of this run."""
        with self._lock:
            left = sum(self._waiting.values())
        passed = time.monotonic() - self._began
        if passed > 60 and self._spent:
            return left * passed / self._spent
        workers = max(1, int(self._config.getoption("numprocesses", None) or 1))
        return left / workers * 1.2

    def _print_progress(self) -> None:
        while not self._stopped.wait(HEARTBEAT):
            now = time.monotonic()
            with self._lock:
                slow = [f"{short(name)} ({now - since:.0f} s)" for name, since in self._running.items()]
                state = f"{self._done} of {self._total} tests, {self._failed} failed"
            self._print(f"{state}, about {minutes(self._expected())} min left · now {', '.join(slow) or 'nothing'}")

    def _print(self, text: str) -> None:
        passed = int(time.monotonic() - self._began)
        with self._lock:
            print(f"[{passed // 60:2d}:{passed % 60:02d}] {text}" if text else "", file=self._out, flush=True)


def failure(report: pytest.TestReport) -> Iterable[str]:
    """Yield the lines of a failure: the end of its report, logs of failed components, and the command to repeat it."""
    name = plain_id(report.nodeid)
    yield f"FAILED {name} ({report.when})"
    lines = [line for line in report.longreprtext.splitlines() if "unhandled iopub msg" not in line]
    yield from (f"    {line}" for line in lines[-SHOWN:])
    for title, text in report.sections:
        if title.startswith(LOGS) or title == STDERR:
            yield f"    --- {title}"
            yield from (f"    {line}" for line in text.splitlines()[-SHOWN:])
    yield f"    run it again: {repeat_command(name)}"


LOGS = "end of the log of "
STDERR = "The cell's stderr"


def repeat_command(nodeid: str) -> str:
    """Return the command that repeats a test with the seed of this run."""
    name = nodeid.partition("::")[0] if nodeid.startswith("notebooks/") else nodeid
    seed = os.environ.get("SAGA_LAB_SEED")
    return f"python3 start.py test '{name}'" + (f" --seed {seed}" if seed else "")


def suite_of(nodeid: str) -> str:
    """Return the suite of a test: the folder below ``tests/``, or ``notebooks``."""
    first, *rest = nodeid.partition("::")[0].split("/")
    return rest[0] if first == "tests" and rest else first


def suite_table(took: dict[str, float], wall: float) -> Table:
    """Return the table of tests and seconds per suite, the slowest first."""
    suites: dict[str, list[float]] = defaultdict(list)
    for nodeid, seconds in took.items():
        suites[suite_of(nodeid)].append(seconds)
    table = Table(box=None)
    table.add_column("suite")
    table.add_column("tests", justify="right")
    table.add_column("seconds", justify="right")
    for name, several in sorted(suites.items(), key=lambda entry: -sum(entry[1])):
        table.add_row(name, str(len(several)), f"{sum(several):.0f}")
    together = sum(map(sum, suites.values()))
    table.add_row("one after the other", str(len(took)), f"{together:.0f}")
    table.add_row("side by side, as run", "", f"{wall:.0f}")
    return table


def busy_share(before: object) -> float:
    """Return the non-idle share of all processors' time since `before`."""
    then, now = before._asdict(), psutil.cpu_times()._asdict()  # type: ignore[attr-defined]
    passed = {name: now[name] - then[name] for name in now if not name.startswith("guest")}
    whole = sum(passed.values())
    return 1 - (passed["idle"] + passed.get("iowait", 0.0)) / whole if whole else 0.0


def short(nodeid: str) -> str:
    """Return a node id with the suite's name instead of the folders."""
    file, _, test = nodeid.partition("::")
    return f"{suite_of(nodeid)}/{Path(file).stem}" + (f"::{test}" if test else "")


def minutes(seconds: float) -> str:
    """Return a time in whole minutes, at least 1."""
    return f"{seconds / 60:.0f}" if seconds >= 90 else "1"
