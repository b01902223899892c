"""Rules for every notebook, so that comparisons are meaningful and notebooks are pleasant to read."""

from __future__ import annotations

import ast
import itertools
import json
import re
import statistics
import tomllib
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import nbformat
import pytest

from labkit.exercises import ON_CLUSTER, course
from labkit.exercises.base import ARTEFACTS, Exercise, Kind
from labkit.exercises.board import Board
from labkit.exercises.certificate import Certificate
from labkit.exercises.predictions import predictions
from labkit.exercises.standing import Standing

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
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
SOURCES = {
    "cloudnative-pg.io",
    "cwiki.apache.org",
    "datatracker.ietf.org",
    "debezium.io",
    "docs.confluent.io",
    "docs.sqlalchemy.org",
    "eventuate.io",
    "faststream.ag2.ai",
    "github.com",
    "istio.io",
    "kafka.apache.org",
    "kubernetes.io",
    "masstransit.io",
    "opentelemetry.io",
    "prometheus.io",
    "seata.apache.org",
    "sre.google",
    "www.postgresql.org",
}
"""The sites of the specifications and manuals that the prose cites."""


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


def guide_line(path: Path) -> str:
    """Return the line of docs/instructors.md with the minutes of a notebook."""
    (line,) = re.findall(rf"^\| \[{path.stem[:2]}\].*$", GUIDE, re.MULTILINE)
    return str(line)


def test_the_minutes_add_up(path: Path, notebook: Any) -> None:
    """The minutes for reading and for each exercise add up to the total, and the guide has the same."""
    found = re.search(r"\*\*Minutes:\*\* (\d+) \((\d+) to read and run, (\d+)", prose(notebook))
    assert found
    total, reading, exercises = map(int, found.groups())
    assert total == reading + exercises
    assert exercises == sum(exercise.minutes for exercise in course()[path.stem[:2]])
    assert 20 <= total <= 150
    assert f"| {reading} to read and run, {exercises} for the exercises |" in guide_line(path)


def test_each_prediction_is_made_before_the_code_and_compared_after_it(path: Path, notebook: Any) -> None:
    """At least two cells ask for a prediction. The next cell keeps the guess, and a later one compares it."""
    asked = [number for number, cell in enumerate(notebook.cells) if "> **Predict.**" in cell.source]
    assert len(asked) >= 2
    names = [prediction.name for prediction in predictions(path.stem[:2])]
    sources = [cell.source for cell in notebook.cells]
    assert [sources[number + 1] for number in asked] == [f'tasks.predict("{name}")' for name in names]
    for number, name in zip(asked, names, strict=True):
        (compared,) = [place for place, text in enumerate(sources) if text.startswith(f'tasks.compare("{name}"')]
        between = [cell for cell in notebook.cells[number + 2 : compared] if cell.cell_type == "code"]
        assert between, name


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
    assert len(exercises) >= (3 if path.stem[:2] in ON_CLUSTER else 5)
    assert re.findall(r'tasks\.check\("([^"]+)"', code) == [exercise.name for exercise in exercises]
    for number, exercise in enumerate(exercises, start=1):
        assert f"**{number} · `{exercise.name}`** {exercise.effort} — " in prose(notebook)
        assert (f'tasks.setup("{exercise.name}")' in code) == exercise.needs_setup
        has_cleanup = type(exercise).cleanup is not Exercise.cleanup
        assert (f'tasks.cleanup("{exercise.name}")' in code) == has_cleanup


LIKELY_NAMES = {
    *("order", "orders", "row", "rows", "record", "records", "event", "events", "trace", "traces", "spans", "slot"),
    *("table", "query", "result", "results", "data", "df", "key", "name", "waiting", "answer", "x", "i", "n"),
}
"""Names that a learner's own code in an exercise is likely to use."""


def test_the_code_of_a_learner_cannot_break_the_self_check(notebook: Any) -> None:
    """The notebook's own cells after the exercises read no name that a learner's code is likely to overwrite."""
    for cell in itertools.dropwhile(lambda cell: not cell.id.startswith("ex-"), code_cells(notebook)):
        if not cell.id.startswith("ex-"):
            names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
            stored = {node.id for node in names if isinstance(node.ctx, ast.Store)}
            assert not ({node.id for node in names} - stored) & LIKELY_NAMES, cell.id


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


def test_lines_of_diagrams_are_indented(notebook: Any) -> None:
    """No line of a diagram is wrapped: the rest of a wrapped description would be a syntax error in Mermaid."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    lines = [
        line for text in texts for body in re.findall(r"```mermaid\n(.*?)```", text, re.S) for line in body.split("\n")
    ]
    assert [
        line for line in lines if line and not line.startswith((" ", "flowchart", "sequenceDiagram", "stateDiagram"))
    ] == []


def test_links_resolve(path: Path, notebook: Any) -> None:
    """Each link leads to an existing file or to a source's documentation, and no cell names localhost."""
    for _, _, target in LINK.findall(prose(notebook)):
        if "://" in target:
            assert target.startswith("https://"), target
            assert urlsplit(target).hostname in SOURCES, target
            continue
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
    assert set(EXEMPT) <= {path.stem for path in (ROOT / "notebooks").rglob("*.ipynb")}


def test_every_notebook_has_exercises() -> None:
    """Each notebook has exercises, and each exercise belongs to an existing notebook."""
    assert {path.stem[:2] for path in (ROOT / "notebooks").glob("*.ipynb")} == set(course())


def test_names_of_exercises_are_unique() -> None:
    """Each exercise of the course has a unique name."""
    names = [exercise.name for exercises in course().values() for exercise in exercises]
    assert len(set(names)) == len(names)


def test_each_exercise_has_three_hints_a_level_and_minutes() -> None:
    """Each exercise has three different hints, a level from 1 to 3, a kind, and at most an hour."""
    for exercise in itertools.chain(*course().values()):
        assert len(set(exercise.hints)) == 3, exercise.name
        assert all(hint.strip() for hint in exercise.hints), exercise.name
        assert exercise.level in (1, 2, 3), exercise.name
        assert exercise.kind in get_args(Kind), exercise.name
        assert 1 <= exercise.minutes <= 60, exercise.name


def test_hints_name_existing_sections() -> None:
    """A section that a hint names is a heading of its notebook."""
    missing = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        headings = set(re.findall(r"^#+ (.+)$", prose(nbformat.read(path, as_version=4)), re.MULTILINE))
        for exercise in course()[path.stem[:2]]:
            named = re.findall(r"(?:section|as in) \*([^*]+)\*", " ".join(exercise.hints))
            missing += [(exercise.name, name) for name in named if name not in headings]
    assert missing == []


def test_at_most_one_exercise_in_five_asks_for_a_fact() -> None:
    """At most one exercise in five is recall, and each notebook but the first asks for an artefact."""
    kinds = {notebook: [exercise.kind for exercise in exercises] for notebook, exercises in course().items()}
    every = [kind for found in kinds.values() for kind in found]
    assert 5 * every.count("recall") <= len(every)
    assert [notebook for notebook, found in kinds.items() if not {*found} & {*ARTEFACTS}] in ([], ["00"])


@pytest.mark.parametrize(
    ("notebook", "cell", "shown"),
    [
        ("00-start-here", "progress", Board(Standing.of({}))),
        ("13-capstone", "certificate", Certificate(Standing.of({}), "", "certificate.html")),
    ],
    ids=["board", "certificate"],
)
def test_the_saved_progress_has_every_exercise(notebook: str, cell: str, shown: Board | Certificate) -> None:
    """The saved board and certificate, which nbval does not compare, list the exercises that the course has now."""
    saved = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4)
    ((output,),) = (one.outputs for one in saved.cells if one.id == cell)
    advice = f"run tools/save_notebooks.py notebooks/{notebook}.ipynb"
    assert output.data["text/plain"] == repr(shown), advice
