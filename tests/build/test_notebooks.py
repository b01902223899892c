"""Rules for the notebooks of the build track: those of the course, and those of the track."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.build import STEPS, task
from labkit.exercises.predictions import predictions
from tests.notebooks.test_guards import (
    code_cells,
    line_count,
    prose,
    test_each_exemption_has_a_reason,
    test_each_picture_has_alt_text,
    test_every_code_cell_was_run_in_order,
    test_links_resolve,
    test_most_cells_are_compared,
    test_no_cell_has_an_unexpected_error,
)

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks" / "build").glob("*.ipynb"))
SECTIONS = [
    "## What you will be able to do",
    "## Before you begin",
    "## The problem",
    "## Requirements",
    "## Your code",
    "## Run it",
    "## The judge",
    "## What others do",
    "## Next",
]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Return each notebook's path in turn."""
    found: Path = request.param
    return found


@pytest.fixture
def notebook(path: Path) -> Any:
    """Return the notebook as it is saved."""
    return nbformat.read(path, as_version=4)


def step_of(path: Path) -> str:
    """Return the step of a notebook, by its file name."""
    return path.stem.partition("-")[2]


def test_each_step_has_a_notebook() -> None:
    """Each step has a notebook with its number and its name."""
    assert {(task(name).notebook, name) for name in STEPS} == {
        (f"build-{path.stem[0]}", step_of(path)) for path in NOTEBOOKS
    }


def test_sections_are_complete_and_in_order(path: Path, notebook: Any) -> None:
    """Each notebook has the same sections in the same order, from the problem to the judge and the usual practice."""
    text = prose(notebook)
    assert re.match(rf"# Build {path.stem[0]} · \S", notebook.cells[0].source)
    positions = [text.find(section) for section in SECTIONS]
    assert -1 not in positions, SECTIONS[positions.index(-1)]
    assert positions == sorted(positions)
    found = re.search(r"\*\*Minutes:\*\* (\d+) \((\d+) to read and run, (\d+) to build\)", text)
    assert found
    assert int(found[1]) == int(found[2]) + int(found[3])


def test_cells_offer_the_stub_and_the_judge(path: Path, notebook: Any) -> None:
    """The first code cell begins the step, one cell writes the stub, and one judges it."""
    name = step_of(path)
    sources = [cell.source for cell in code_cells(notebook)]
    assert sources[0] == f'from labkit.build import begin_step\nstep = begin_step("{name}")'
    assert f"%%writefile work/{name}.py\n{task(name).stub.rstrip()}" in sources
    assert "step.judge()" in sources
    assert sources[-1].startswith("step.close()")


def test_each_prediction_is_made_before_the_code_and_compared_after_it(path: Path, notebook: Any) -> None:
    """At least two cells ask for a prediction. The next cell keeps the guess, and a later one compares it."""
    sources = [cell.source for cell in notebook.cells]
    asked = [number for number, text in enumerate(sources) if "> **Predict.**" in text]
    assert len(asked) >= 2
    names = [prediction.name for prediction in predictions(f"build-{path.stem[0]}")]
    written = [number for number in asked if "✎" in sources[number]]  # the learner writes into the next cell
    assert all(notebook.cells[number + 1].cell_type == "code" for number in written)
    asked = [number for number in asked if number not in written]
    assert [sources[number + 1] for number in asked] == [f'step.predict("{name}")' for name in names]
    for number, name in zip(asked, names, strict=True):
        (compared,) = [place for place, text in enumerate(sources) if text.startswith(f'step.compare("{name}"')]
        assert [cell for cell in notebook.cells[number + 2 : compared] if cell.cell_type == "code"], name


def test_code_cells_are_short(notebook: Any) -> None:
    """A code cell that does not write a file has at most 13 lines."""
    cells = [cell for cell in code_cells(notebook) if not cell.source.startswith("%%writefile")]
    assert max(map(line_count, cells)) <= 13


def test_a_notebook_was_saved_by_the_script(path: Path, notebook: Any) -> None:
    """A saved notebook has readable cell ids, and no widget state or timings."""
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", cell.id) for cell in notebook.cells)
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook, version=4) + "\n"


__all__ = [
    "test_each_exemption_has_a_reason",
    "test_each_picture_has_alt_text",
    "test_every_code_cell_was_run_in_order",
    "test_links_resolve",
    "test_most_cells_are_compared",
    "test_no_cell_has_an_unexpected_error",
]
