"""A learner's progress as a board, as a file to hand in, as a certificate, and in an instructor's table."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from labkit.errors import KitError
from labkit.exercises import ON_CLUSTER, course, hand_ins
from labkit.exercises.base import readable
from labkit.exercises.board import Board
from labkit.exercises.certificate import Certificate
from labkit.exercises.hand_in import write_report
from labkit.exercises.hand_ins import HandIns
from labkit.exercises.progress import ProgressFile
from labkit.exercises.standing import Standing
from labstack.config.paths import TREE

EXERCISES = [exercise for exercises in course().values() for exercise in exercises]
NAMES = [exercise.name for exercise in EXERCISES]
STEPS = sorted(path.stem for path in (TREE / "notebooks" / "build").glob("*.ipynb"))
"""The steps of the build track, such as ``1-outbox``; they count like exercises."""
TOTAL = len(NAMES) + len(STEPS)
REQUIRED = [exercise.name for number in course() if number not in ON_CLUSTER for exercise in course()[number]]
"""The exercises that the certificate of the whole course requires."""
TITLES = {exercise.name: exercise.title for exercise in EXERCISES}


@pytest.fixture
def book(tmp_path: Path) -> ProgressFile:
    """A progress book in which one exercise is solved at the second attempt, and one was tried."""
    book = ProgressFile(tmp_path / "lab")
    book.record_outcome(NAMES[0], "wrong", "3", "Not three.")
    book.record_outcome(NAMES[0], "right", "SELECT 1 < 2", "It is four & more.")
    book.record_outcome(NAMES[1], "wrong", "</script><b>", "No.")
    book.record_hint(NAMES[1], 3)
    book.record_solution_seen(NAMES[1])
    return book


@pytest.fixture
def standing(book: ProgressFile) -> Standing:
    return Standing.of(book.entries())


@pytest.fixture
def finished(book: ProgressFile) -> Standing:
    """The standing of a learner who has solved everything."""
    for name in NAMES:
        book.record_outcome(name, "right", "an answer", "Yes.")
    for step in STEPS:
        number, _, name = step.partition("-")
        book.record_judging(f"build-{number}", name, {"atomic": True}, "def request_return(): ...")
    return Standing.of(book.entries())


def test_the_board_shows_every_exercise_and_what_is_next(standing: Standing) -> None:
    """Text and HTML show each exercise with its state, the counts, and an exercise of the notebook used last."""
    board = Board(standing)
    text, page = repr(board), board._repr_html_()
    assert text.startswith(f"1 of {len(REQUIRED) + len(STEPS)} exercises solved")
    assert f"Next: 00 · Start here, {NAMES[1]}: {TITLES[NAMES[1]]}" in text
    assert [re.search(rf"[○✓…] {name}:", text) is not None for name in NAMES] == [True] * len(NAMES)
    assert f"✓ {NAMES[0]}" in text
    assert f"… {NAMES[1]}" in text
    assert page.count("<li ") == TOTAL
    assert page.count("<section") == len(course()) + len(STEPS)
    assert page.count('class="lk-next"') == 1
    assert_tags_are_closed(page)
    table = board.table
    assert list(table[table.kind == "exercise"].name) == NAMES


def test_the_next_exercise_is_in_the_notebook_used_last(book: ProgressFile, finished: Standing) -> None:
    """After an exercise of notebook 04, the next one is there; a complete notebook leads to the next, then around."""
    duplicates = [exercise.name for exercise in course()["04"]]
    entries = {name: {"solved_at": "t", "at": "t"} for name in duplicates[1:]}
    upcoming = Standing.of(entries).next_exercise()
    assert upcoming is not None
    assert upcoming.name == duplicates[0]
    upcoming = Standing.of({**entries, duplicates[0]: {"solved_at": "t", "at": "t"}}).next_exercise()
    assert upcoming is not None
    assert upcoming.notebook == "05"
    first = Standing.of({name: entry for name, entry in book.entries().items() if name != NAMES[0]}).next_exercise()
    assert first is not None
    assert first.name == NAMES[0]
    assert finished.next_exercise() is None
    assert "tasks.certificate" in repr(Board(finished))


def test_the_table_has_a_row_for_each_exercise(standing: Standing, tmp_path: Path) -> None:
    """The CSV file has each exercise of the course once, with its attempts, answer and outcome."""
    path = write_report(standing, tmp_path / "progress.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "exercise"]
    assert [row["name"] for row in rows] == NAMES
    assert (rows[0]["state"], rows[0]["attempts"], rows[0]["answer"]) == ("solved", "2", "SELECT 1 < 2")
    assert rows[0]["at"]
    assert [row["state"] for row in rows[1:3]] == ["tried", "open"]


def test_a_step_of_the_build_track_shows_its_requirements(book: ProgressFile) -> None:
    """A step counts like an exercise; its requirements, its file and its newest judging are shown."""
    number, _, name = STEPS[0].partition("-")
    book.record_judging(f"build-{number}", name, {"atomic": True, "relayed": False}, "import sqlalchemy")
    step = Standing.of(book.entries()).by_notebook()[f"build-{number}"].items[0]
    assert (step.name, step.state, step.answer) == (name, "tried", "import sqlalchemy")
    assert step.outcome == "not kept: relayed"
    book.record_judging(f"build-{number}", name, {"atomic": True, "relayed": True})
    assert Standing.of(book.entries()).exercises.done == 2


def test_the_page_shows_the_answers_and_escapes_markup(standing: Standing, tmp_path: Path) -> None:
    """The page counts the solved exercises by notebook, shows answers and outcomes, and escapes markup."""
    path = write_report(standing, tmp_path / "progress.html", who="Ada <b>Moreau</b>")
    text = path.read_text(encoding="utf-8")
    assert f"1 of {len(REQUIRED) + len(STEPS)} exercises solved" in text
    assert "Ada &lt;b&gt;Moreau&lt;/b&gt;" in text
    assert "<pre>SELECT 1 &lt; 2</pre>" in text
    assert "It is four &amp; more." in text
    assert "1 attempt<br>1 hint<br>looked at the solution" in text
    assert text.count("<h2>") == len(course()) + len(STEPS)
    assert_tags_are_closed(text)


def test_a_solved_exercise_keeps_its_right_answer(book: ProgressFile) -> None:
    """A later wrong answer replaces neither the right answer nor its message, and solutions seen later don't count."""
    book.record_outcome(NAMES[0], "wrong", "5", "Not five.")
    book.record_solution_seen(NAMES[0])
    item = Standing.of(book.entries()).items[0]
    assert (item.answer, item.outcome, item.attempts) == ("SELECT 1 < 2", "It is four & more.", 3)
    assert not item.saw_solution


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("SELECT 1", "SELECT 1"),
        ([1, "two"], "[1, 'two']"),
        (pd.DataFrame({"n": [7]}), "   n\n0  7"),
        (lambda: 1, "lambda"),
        ((lambda: 1, lambda: 2), "lambda: 2"),
        ("x" * 9000, "x\n…"),
    ],
    ids=["text", "list", "table", "function", "functions", "long"],
)
def test_an_answer_is_readable(answer: object, text: str) -> None:
    """A text stays as it is; a table is a table, a function its source; a long answer is cut."""
    assert text in readable(answer)
    assert len(readable(answer)) < 8010


@pytest.mark.parametrize(
    ("name", "message"), [("a.pdf", "extension .pdf"), ("a", "no extension"), ("no/a.csv", "does not exist")]
)
def test_an_unsupported_extension_or_missing_folder_is_rejected(tmp_path: Path, name: str, message: str) -> None:
    """An unsupported extension or a missing folder is rejected with a next step, and nothing is written."""
    with pytest.raises(KitError, match=message) as caught:
        write_report(Standing.of({}), tmp_path / name)
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_is_written_only_when_it_is_earned(
    standing: Standing, finished: Standing, tmp_path: Path
) -> None:
    """Before, the open exercises are listed and nothing is written; afterwards the page has the name."""
    path = tmp_path / "certificate.html"
    missing = Certificate(standing, "Ada", path)
    assert not missing.earned
    assert not path.exists()
    assert f"Not yet: 1 of {len(REQUIRED) + len(STEPS)}" in repr(missing)
    assert all(name in repr(missing) for name in REQUIRED[1:])
    earned = Certificate(finished, "Ada <Moreau>", path)
    assert earned.earned
    assert str(path) in repr(earned)
    text = path.read_text(encoding="utf-8")
    assert "Ada &lt;Moreau&gt;" in text
    assert f"{len(REQUIRED) + len(STEPS)} exercises solved" in text
    assert not re.search(r"(src|href)=", text), "the page is not self-contained"
    assert_tags_are_closed(text)


def test_a_certificate_does_not_require_a_cluster(finished: Standing, book: ProgressFile, tmp_path: Path) -> None:
    """A learner who has no cluster earns the certificate, and the board neither proposes nor counts what needs one."""
    entries = {name: entry for name, entry in book.entries().items() if name not in {*NAMES} - {*REQUIRED}}
    standing = Standing.of(entries)
    assert standing.exercises.done == len(REQUIRED) + len(STEPS) < TOTAL
    assert Certificate(standing, "Ada", tmp_path / "c.html").earned
    assert standing.next_exercise() is None
    assert "remain" not in standing.summary()
    number = ON_CLUSTER[0]
    assert not Certificate(standing, "Ada", tmp_path / "c.html", [number]).earned
    assert Certificate(finished, "Ada", tmp_path / "c.html", [number]).earned


def test_a_certificate_may_be_about_some_notebooks(book: ProgressFile, tmp_path: Path) -> None:
    """A certificate about some notebooks needs only their exercises, and names only them."""
    for exercise in course()["00"]:
        book.record_outcome(exercise.name, "right")
    standing = Standing.of(book.entries())
    path = tmp_path / "c.html"
    assert not Certificate(standing, "Ada", path).earned
    assert Certificate(standing, "Ada", path, ["00"]).earned
    assert "01 ·" not in path.read_text(encoding="utf-8")
    with pytest.raises(KitError, match="no notebook '77'"):
        Certificate(standing, "Ada", path, ["77"])
    path.unlink()
    assert "Your name is missing" in repr(Certificate(standing, " ", path, ["00"]))
    assert not path.exists()


def test_an_instructor_sees_a_folder_as_one_table(
    standing: Standing, finished: Standing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pages and JSON are read, the newest of each learner counts, and a file that is not a hand-in is named."""
    folder = tmp_path / "hand-ins"
    folder.mkdir()
    write_report(Standing.of({}), folder / "early.json", who="Ada")
    path = write_report(finished, folder / "ada.json", who="Ada")
    late = json.loads(path.read_text(encoding="utf-8")) | {"written_at": "2999-01-01T00:00:00+00:00"}
    path.write_text(json.dumps(late), encoding="utf-8")
    write_report(standing, folder / "bob.html")
    (folder / "notes.html").write_text("<p>hello</p>", encoding="utf-8")
    (folder / "other.json").write_text("[]", encoding="utf-8")
    found = HandIns(folder)
    assert list(found.table.learner) == ["Ada", "bob"]
    assert list(found.table.solved) == [f"{TOTAL}/{TOTAL}", f"1/{TOTAL}"]
    assert list(found.table["00"]) == ["5/5", "1/5"]
    hardest = found.exercises.set_index("exercise").loc[NAMES[1]]
    assert (hardest.solved, hardest.hints, hardest["saw solution"]) == (1, 2, 2)
    assert hand_ins.main([str(folder), "--html", str(tmp_path / "all.html")]) == 0
    printed = capsys.readouterr().out
    assert "Not a hand-in: notes.html, other.json." in printed
    page = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert page.count("<td>00</td>") == len(course()["00"])
    assert 'href="hand-ins/bob.html"' in page
    assert_tags_are_closed(page)


def test_a_missing_or_empty_folder_of_hand_ins_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty folder is reported, and a missing one is an error with a next step."""
    assert hand_ins.main([str(tmp_path)]) == 0
    assert "no hand-in here" in capsys.readouterr().out
    assert hand_ins.main([str(tmp_path / "none")]) == 1
    assert "does not exist" in capsys.readouterr().err


class TagChecker(HTMLParser):
    """Collects the open tags, and checks that each one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_tags_are_closed(text: str) -> None:
    parser = TagChecker()
    parser.feed(text)
    assert parser.open == []
