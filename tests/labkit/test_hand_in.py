"""The progress report, as a page and as a table."""

from __future__ import annotations

import csv
from html.parser import HTMLParser
from pathlib import Path

import pytest

from labkit.errors import KitError
from labkit.exercises import course
from labkit.exercises.hand_in import write_report
from labkit.exercises.progress import ProgressFile

NAMES = [exercise.name for exercises in course().values() for exercise in exercises]


@pytest.fixture
def book(tmp_path: Path) -> ProgressFile:
    """A progress book in which one exercise is solved at the second attempt, and one was tried."""
    book = ProgressFile(tmp_path / "lab")
    book.record_outcome(NAMES[0], "wrong")
    book.record_outcome(NAMES[0], "right")
    book.record_outcome(NAMES[1], "wrong")
    return book


def test_the_table_has_a_row_for_each_exercise(book: ProgressFile, tmp_path: Path) -> None:
    """The CSV file has each exercise of the course once, with its attempts and the time of its solution."""
    path = write_report(book.entries(), tmp_path / "progress.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["exercise"] for row in rows] == NAMES
    assert (rows[0]["state"], rows[0]["attempts"]) == ("✓ solved", "2")
    assert rows[0]["solved_at"]
    assert (rows[1]["state"], rows[2]["state"]) == ("… tried", "○ open")


def test_the_page_counts_solved_exercises_and_escapes_markup(book: ProgressFile, tmp_path: Path) -> None:
    """The page counts the solved exercises by notebook, and escapes markup in a name."""
    path = write_report(book.entries(), tmp_path / "progress.html", who="Ada <b>Moreau</b>")
    text = path.read_text(encoding="utf-8")
    assert f"1 of {len(NAMES)} exercises solved" in text
    assert "Ada &lt;b&gt;Moreau&lt;/b&gt;" in text
    assert text.count("<h2>") == len(course())
    parser = TagChecker()
    parser.feed(text)
    assert parser.open == []


@pytest.mark.parametrize(
    ("name", "message"), [("a.pdf", "as .pdf"), ("a", "without an extension"), ("no/a.csv", "does not exist")]
)
def test_an_unsupported_extension_or_missing_folder_is_rejected(tmp_path: Path, name: str, message: str) -> None:
    """An unsupported extension or a missing folder is rejected with a next step, and nothing is written."""
    with pytest.raises(KitError, match=message) as caught:
        write_report({}, tmp_path / name)
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == []


class TagChecker(HTMLParser):
    """Collects the open tags, and checks that each one is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
