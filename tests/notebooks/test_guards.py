"""Rules for every notebook, so that comparisons are meaningful and notebooks are pleasant to read."""

from __future__ import annotations

import json
import re
import statistics
import tomllib
from pathlib import Path
from typing import Any

import nbformat

from benchmarks.course import minutes_to_read
from labkit.exercises import course
from labkit.exercises.base import Exercise

ROOT = Path(__file__).resolve().parents[2]
EXEMPT = tomllib.loads((Path(__file__).parent / "exempt.toml").read_text(encoding="utf-8"))
IGNORE_TAG = "nbval-ignore-output"
SECTIONS = [
    "## What you will be able to do",
    "## Before you begin",
    "## On the map",
    "## Exercises",
    "## Self-check",
    "## Reset",
    "## Next",
]
GUIDE = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
SECONDS = {number: float(seconds) for number, seconds in re.findall(r"^\| \[(\d\d)\]\(\S+\) \| (\d+) \|", GUIDE, re.M)}
"""Running time of each notebook in seconds, as measured by `python -m benchmarks course`."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def is_exempt(cell: Any) -> bool:
    return IGNORE_TAG in cell.metadata.get("tags", []) or "NBVAL" in cell.source


def line_count(cell: Any) -> int:
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def test_every_code_cell_was_run_in_order(notebook: Any) -> None:
    """Execution counts of the code cells start at one without gaps, since a cell that has none is not compared."""
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_most_cells_are_compared(notebook: Any) -> None:
    """At least 60% of the code cells have an output that is compared."""
    cells = code_cells(notebook)
    compared = [cell for cell in cells if cell.outputs and not is_exempt(cell)]
    assert len(compared) >= 0.6 * len(cells)


def test_each_exemption_has_a_reason(path: Path, notebook: Any) -> None:
    """Exactly the cells for which exempt.toml gives a reason are exempt from comparison."""
    assert {cell.id for cell in code_cells(notebook) if is_exempt(cell)} == set(EXEMPT.get(path.stem, {}))
    assert all(len(reason) > 20 for reason in EXEMPT.get(path.stem, {}).values())


def test_no_cell_has_an_unexpected_error(notebook: Any) -> None:
    """No cell has stderr output, and only cells tagged `raises-exception` have errors."""
    for cell in code_cells(notebook):
        kinds = [output.get("name", output.output_type) for output in cell.outputs]
        assert "stderr" not in kinds
        assert "error" not in kinds or "raises-exception" in cell.metadata.get("tags", [])


def test_sections_are_complete_and_in_order(notebook: Any) -> None:
    """Each notebook has the same parts in the same order, from title, outcomes and map to exercises and next steps."""
    text = prose(notebook)
    assert re.match(r"# \d\d · \S", notebook.cells[0].source)
    positions = [text.find(section) for section in SECTIONS]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert re.search(r"\*\*Minutes:\*\* \d+ \(\d+ to read and run, \d+ for the exercises\)", text)
    assert "**Prerequisites:**" in text


def test_the_minutes_add_up(notebook: Any) -> None:
    """The minutes for reading and for exercises add up to the total, which is 20 to 45."""
    found = re.search(r"\*\*Minutes:\*\* (\d+) \((\d+) to read and run, (\d+)", prose(notebook))
    assert found
    total, reading, exercises = map(int, found.groups())
    assert total == reading + exercises
    assert 20 <= total <= 45


def test_the_minutes_fit_the_measurement(path: Path, notebook: Any) -> None:
    """The stated minutes fit an ordinary reading pace plus the running time from docs/instructors.md."""
    found = re.search(r"\*\*Minutes:\*\* \d+ \((\d+) to read and run", prose(notebook))
    assert found
    estimate = minutes_to_read(notebook, SECONDS[path.stem[:2]])
    assert estimate <= int(found[1]) <= 2 * estimate + 2


def test_cells_ask_for_a_prediction_before_the_code(notebook: Any) -> None:
    """At least two cells ask for a prediction, with space to write it, and a code cell follows each."""
    predictions = [number for number, cell in enumerate(notebook.cells) if "> **Predict.**" in cell.source]
    assert len(predictions) >= 2
    for number in predictions:
        assert "✎" in notebook.cells[number].source
        assert notebook.cells[number + 1].cell_type == "code"


def test_the_first_code_cell_attaches_to_the_lab(path: Path, notebook: Any) -> None:
    """The first code cell attaches to the lab, so that no notebook depends on another."""
    assert f'begin("{path.stem[:2]}")' in code_cells(notebook)[0].source


def test_code_cells_are_short(notebook: Any) -> None:
    """Half of the code cells have at most 4 lines, and nine out of ten at most 13."""
    lengths = sorted(line_count(cell) for cell in code_cells(notebook))
    assert statistics.median(lengths) <= 4
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 13


def test_each_exercise_is_named_and_checked(path: Path, notebook: Any) -> None:
    """The notebook names and checks each of its exercises, with setup and cleanup if the exercise needs them."""
    code = "\n".join(cell.source for cell in code_cells(notebook))
    exercises = course()[path.stem[:2]]
    assert len(exercises) >= 5
    assert re.findall(r'tasks\.check\("([^"]+)"', code) == [exercise.name for exercise in exercises]
    for number, exercise in enumerate(exercises, start=1):
        assert f"**{number} · `{exercise.name}`**" in prose(notebook)
        assert (f'tasks.setup("{exercise.name}")' in code) == exercise.needs_setup
        has_cleanup = type(exercise).cleanup is not Exercise.cleanup
        assert (f'tasks.cleanup("{exercise.name}")' in code) == has_cleanup


def test_a_notebook_ends_with_a_self_check_and_a_reset(notebook: Any) -> None:
    """The last code cell resets the lab and shows the result, after a self-check with output."""
    *before, last = code_cells(notebook)
    assert last.source.startswith("lab.reset()")
    assert last.outputs
    assert [cell for cell in before if cell.id.startswith("self-check") and cell.outputs]


def test_each_picture_has_alt_text(notebook: Any) -> None:
    """Each figure and each image has alt text, and each Mermaid diagram has a title and a description."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata.get("image/png", {}).get("alt", "")) > 40, cell.id
            assert "image/svg+xml" not in output.get("data", {}), cell.id
    for mark, alt, _ in LINK.findall(prose(notebook)):
        assert not mark or len(alt) > 40
    for diagram in re.findall(r"```mermaid\n(.*?)```", prose(notebook), re.DOTALL):
        assert "accTitle:" in diagram
        assert "accDescr:" in diagram


def test_links_resolve(path: Path, notebook: Any) -> None:
    """Each link in the prose is relative and leads to an existing file, and no cell names localhost."""
    for _, _, target in LINK.findall(prose(notebook)):
        assert "://" not in target, target
        assert (path.parent / target.partition("#")[0]).exists(), target
    assert not re.search(r"localhost|127\.0\.0\.1", prose(notebook))
    assert not any(re.search(r"localhost|127\.0\.0\.1", cell.source) for cell in code_cells(notebook))


def test_a_notebook_was_saved_by_the_script(path: Path, notebook: Any) -> None:
    """A saved notebook has readable cell ids, and no widget state, timings, Python version or secrets."""
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert all(re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", cell.id) for cell in notebook.cells)
    text = path.read_text(encoding="utf-8")
    assert "widget-view" not in text
    assert not re.search(r"postgres(ql)?://\w+:", text)
    assert text == nbformat.writes(nbformat.from_dict(json.loads(text)), version=4) + "\n"


def test_every_exemption_belongs_to_a_notebook() -> None:
    """exempt.toml names only existing notebooks."""
    assert [name for name in EXEMPT if not (ROOT / "notebooks" / f"{name}.ipynb").exists()] == []


def test_every_notebook_has_exercises() -> None:
    """Each notebook has exercises, and each exercise belongs to an existing notebook."""
    assert {path.stem[:2] for path in (ROOT / "notebooks").glob("*.ipynb")} == set(course())


def test_names_of_exercises_are_unique() -> None:
    """Each exercise of the course has a unique name."""
    names = [exercise.name for exercises in course().values() for exercise in exercises]
    assert len(set(names)) == len(names)
