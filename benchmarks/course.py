"""The time that a machine needs to run the cells of the course.

The notebooks run as with `pytest --nbval notebooks/`, in one go on a lab that has never run, so the first of them
starts it. The minutes that a person needs come from trial runs (docs/trials).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))


def measure(*, quick: bool, console: Console) -> dict[str, Any]:
    """Run the course, or its first notebook, and measure each cell.

    Raises
    ------
    RuntimeError
        A notebook failed, so its seconds would mean nothing.
    """
    notebooks = COURSE[:1] if quick else COURSE
    with tempfile.TemporaryDirectory(prefix="saga-lab-benchmark-") as folder:
        report = Path(folder, "report.xml")
        environment = {**os.environ, "XDG_STATE_HOME": folder, "LAB_NAME": "course"}
        command = [sys.executable, "-m", "pytest", "-q", "--nbval", f"--junitxml={report}", *map(str, notebooks)]
        began = time.monotonic()
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        finally:
            subprocess.run([sys.executable, "-m", "labstack.cli", "down", "--purge"], env=environment, check=True)
        spent = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(done.stdout[-3000:])
        seconds = cell_seconds(report)
    totals = {path: sum(seconds[path.stem].values()) for path in notebooks}
    return {
        "quick": quick,
        "seconds_in_all": spent,
        "notebooks": [{"name": path.stem, "seconds": total} for path, total in totals.items()],
        "slowest_cells": Counter(
            {f"{name}, {cell}": took for name, cells in seconds.items() for cell, took in cells.items()}
        ).most_common(5),
    }


def cell_seconds(report: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of each cell of each notebook, from pytest's JUnit XML report."""
    found: dict[str, dict[str, float]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        notebook = case.attrib["classname"].removesuffix(".ipynb").rpartition(".")[2]
        found.setdefault(notebook, {})[case.attrib["name"]] = float(case.attrib["time"])
    return found


def show(results: dict[str, Any], console: Console) -> None:
    """Print the table for docs/instructors.md."""
    table = Table("notebook", "seconds of running", title="The course")
    for row in results["notebooks"]:
        table.add_row(row["name"], f"{row['seconds']:.0f}")
    console.print(table)
    console.print(f"pytest --nbval: {results['seconds_in_all'] / 60:.1f} minutes for all of it (15 at most)")
    for cell, seconds in results["slowest_cells"]:
        console.print(f"{seconds:6.1f} s  {cell}")
