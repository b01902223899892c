"""Learners' mistakes with a notebook: each cell runs twice, only half of the cells run, or all run in random order.

Each resulting error names the next step, and a reset restores the lab.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from labstack import Lab
from tests.notebooks.conftest import NOTEBOOKS, ROOT
from tests.suite.chance import SEED, short_sample
from tools.scratch_folder import scratch_folder

CASES = short_sample([(path, run_order) for path in NOTEBOOKS for run_order in ("half", "shuffled", "twice")], 0)
"""A notebook, and the order in which its cells run; all are ``long``."""
PATIENCE = 10.0
"""Maximum time in seconds that a cell waits for something: most of what these cells wait for never happens."""
IMPATIENT = f"""
def make_impatient():
    import sys
    from labstack import waiting
    patient = waiting.poll_until

    def poll_until(probe, timeout, **options):
        caller = sys._getframe(1).f_globals["__name__"]
        is_of_a_cell = caller.startswith(("labkit.waiting", "labkit.client", "labkit.inspect"))
        return patient(probe, min(timeout, {PATIENCE}) if is_of_a_cell else timeout, **options)

    waiting.poll_until = poll_until

make_impatient()
del make_impatient
"""
NEXT_STEPS = ("Next step:", "Run All Above", "Run the cells above it")


def cells_of(path: Path, run_order: str) -> list[str]:
    """Return a notebook's cells in the order of a learner who runs the first cell and then loses track.

    A cell before them limits the waits of labkit's helpers.
    """
    first, *rest = (cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    rng = random.Random(f"{SEED} {path.stem}")
    by_order = {
        "twice": [cell for cell in rest for _ in range(2)],
        "half": [cell for cell in rest if rng.random() < 0.5],
        "shuffled": rng.sample(rest, len(rest)),
    }
    return [IMPATIENT, first, *by_order[run_order]]


def errors_of(cells: list[str]) -> list[Any]:
    """Run cells in one kernel, as in a notebook of the course, and return every error that is shown."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with scratch_folder(ROOT / "notebooks") as folder:
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, allow_errors=True, timeout=180, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    return [output for output in outputs if output.output_type == "error"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("path", "run_order"), CASES, ids=lambda value: value.stem if isinstance(value, Path) else value
)
def test_each_error_has_a_next_step(course_lab: Lab, path: Path, run_order: str) -> None:
    """Each error has a next step, and after a reset the lab is ready and every invariant holds."""
    errors = errors_of(cells_of(path, run_order))
    for error in errors:
        shown = "\n".join([error.evalue, *error.traceback])
        assert any(words in shown for words in NEXT_STEPS), shown
    course_lab.reset()
    assert course_lab.status(memory=False).state == "ready"
    assert [verdict for verdict in course_lab.check(wait_for_rest=60) if not verdict.holds] == []
