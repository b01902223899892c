"""The whole test suite, suite by suite, with the minutes that each took: what `python3 start.py test` runs.

    python tools/check.py                    everything, as .ci/run does
    python tools/check.py lint notebooks     only these suites
    python tools/check.py --long             more of everything, as .ci/long does: every kill, every exercise's
    variants, repetitions

The labs that the tests start keep their state in a temporary folder, so that nobody's own lab is touched; programs
come from the user's cache.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from labstack.local.process import MARKER

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
PYTEST = [PYTHON, "-m", "pytest", "-q", "--durations=5"]
LAB = [PYTHON, "-m", "labstack.cli"]
SKIPPED = 77
"""Exit status of what can't be tried on this machine, and says why."""


@dataclass(frozen=True)
class Suite:
    """A named list of commands; the later ones run even if an earlier one fails."""

    name: str
    commands: Callable[[bool], list[list[str]]]
    observed: bool = False
    """Whether Prometheus and Jaeger run beside the lab: what has no need of them is tested without."""


def prefetch(long: bool) -> list[list[str]]:
    """Return the commands that fetch, or build, what no package registry ships."""
    consequences = {
        "istiod": "nothing is held against it",
        "prometheus": "what it collects is not tested",
        "jaeger": "what it keeps is not tested",
    }
    get = [[PYTHON, "-m", "tests.get_program", name, then] for name, then in consequences.items()]
    return [[*LAB, "prefetch"], *get]


def notebooks(long: bool) -> list[list[str]]:
    """Return the commands that check the notebooks on a lab that starts once."""
    strict = [PYTHON, "-m", "pytest", "-q", "--nbval", "notebooks/"]
    return [[*LAB, "up"], *([strict] * (3 if long else 1)), [*PYTEST, "tests/notebooks"], [*LAB, "down", "--purge"]]


def containers(long: bool) -> list[list[str]]:
    """Return the commands that check container mode, on an engine of its own; tests and notebooks are local mode's."""
    names = ["test_container_mode", "test_engine_troubles", "test_reset", "test_mesh"]
    if long:
        names += ["test_switches", "test_dead_letters", "test_recovery", "test_relay", "test_resend", "test_referee"]
    tests = [f"tests/stack/{name}.py" for name in names]
    on_engine = [PYTHON, "-m", "tests.containers", *PYTEST, "--nbval"]
    if long:
        return [[*on_engine, *tests], *([[*on_engine, "notebooks/"]] * 3)]
    return [[*on_engine, *tests, "notebooks/01-one-order.ipynb", "notebooks/03-compensations.ipynb"]]


def browser(long: bool) -> list[list[str]]:
    """Return the commands that look at notebooks in a real JupyterLab in a real browser."""
    get = [PYTHON, "-m", "tools.get_chromium"]
    return [get, [*LAB, "up"], [*PYTEST, "tests/browser"], [*LAB, "down", "--purge"]]


SUITES = [
    Suite("lint", lambda _: [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]]),
    Suite("repo", lambda _: [[*PYTEST, "tests/repo", "tests/datasets"]]),
    Suite("book", lambda _: [[*PYTEST, "tests/book"]]),
    Suite("services", lambda _: [[*PYTEST, "tests/services"]]),
    Suite("prefetch", prefetch),
    Suite("mesh", lambda _: [[*PYTEST, "tests/mesh"]]),
    Suite("stack", lambda _: [[*PYTEST, "tests/stack"]]),
    Suite("containers", containers),
    Suite("observability", lambda _: [[*PYTEST, "tests/observability"]], observed=True),
    Suite("labkit", lambda _: [[*LAB, "up"], [*PYTEST, "tests/labkit"], [*LAB, "down", "--purge"]], observed=True),
    Suite("notebooks", notebooks, observed=True),
    Suite("browser", browser, observed=True),
    Suite("binder", lambda _: [[*PYTEST, "-s", "tests/binder"]]),
    Suite("benchmarks", lambda _: [[*PYTEST, "tests/benchmarks"]]),
]


def main() -> int:
    """Run the suites that are asked for, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(s.name for s in SUITES)}")
    parser.add_argument("--long", action="store_true", help="every variant instead of a sample")
    parser.add_argument(
        "--seed", type=int, default=date.today().toordinal(), help="chooses the sample (default: the day)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - {suite.name for suite in SUITES}:
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    chosen = [suite for suite in SUITES if not arguments.suites or suite.name in arguments.suites]
    # A stop from outside ends in order, too: what the tests started is ended below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {arguments.seed} (repeat with --seed {arguments.seed})", flush=True)
    run = f"{os.getpid()}-{random.randrange(10**6)}"
    with tempfile.TemporaryDirectory(prefix="saga-lab-check-") as folder:
        environment = {
            **os.environ,
            "PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "XDG_STATE_HOME": folder,
            "LAB_NAME": "check",
            "LAB_MODE": "local",
            "LAB_CONTROL_PLANE": "translator",
            "SAGA_LAB_SEED": str(arguments.seed),
            "SAGA_LAB_LONG": "1" if arguments.long else "",
            "SAGA_LAB_CHECK": run,
            "SAGA_LAB_FAILURES": f"{folder}/failures",
        }
        try:
            results = [run_suite(suite, environment, long=arguments.long) for suite in chosen]
        finally:
            left = end_leftovers(run)
            print(failures(Path(folder, "failures")))
    report(results)
    if left:
        print(f"left behind by the tests, and ended now: {', '.join(left)}", file=sys.stderr)
    good = all(result != "FAILED" for _, result, _ in results) and not left
    print("all suites passed" if good else "SOME SUITES FAILED", flush=True)
    return 0 if good else 1


def run_suite(suite: Suite, environment: dict[str, str], *, long: bool) -> tuple[str, str, float]:
    """Run one suite; returns its name, its result (`passed`, `SKIPPED` or `FAILED`), and the minutes."""
    print(f"\n=== {suite.name}", flush=True)
    began = time.monotonic()
    statuses = set()
    environment = {**environment, "LAB_OBSERVABILITY": "auto" if suite.observed else "off"}
    for command in suite.commands(long):
        print("$", " ".join(Path(word).name if word == PYTHON else word for word in command), flush=True)
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
        statuses.add(done.returncode)
    result = "FAILED" if statuses - {0, SKIPPED} else "SKIPPED" if SKIPPED in statuses else "passed"
    return suite.name, result, (time.monotonic() - began) / 60


def end_leftovers(run: str) -> list[str]:
    """End every process that was started by this run and still lives; returns what they were.

    One that is on its way out, as Python's resource tracker is when its parent has just ended, is given a moment.
    """
    _, alive = psutil.wait_procs(started_by(run), timeout=3)
    left = []
    for process in alive:
        with suppress(psutil.Error, OSError):
            left.append(process.environ().get(MARKER) or " ".join(process.cmdline()[:4]))
            process.kill()
    return left


def started_by(run: str) -> list[psutil.Process]:
    """Return the living processes that this run started, itself left out."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            ours = process.environ().get("SAGA_LAB_CHECK") == run and process.pid != os.getpid()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def failures(noted: Path) -> str:
    """Return what pytest has noted of each failure (see conftest.py), since the suites' own words are far above."""
    return f"\nwhat failed, in brief\n{noted.read_text(encoding='utf-8')}" if noted.exists() else ""


def report(results: list[tuple[str, str, float]]) -> None:
    """Print the table of minutes."""
    table = Table(box=None)
    for column in ("suite", "result", "minutes"):
        table.add_column(column, justify="right" if column == "minutes" else "left")
    for name, result, minutes in results:
        table.add_row(name, result, f"{minutes:.1f}")
    table.add_row("in all", "", f"{sum(minutes for *_, minutes in results):.1f}")
    print()
    Console(width=80).print(table)


if __name__ == "__main__":
    sys.exit(main())
