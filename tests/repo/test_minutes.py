"""The stated minutes of the course: the medians of the trial runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from labkit.exercises import ON_CLUSTER, course
from tools.state_minutes import AUTHOR, READING, ROOT, TRIALS, medians, revised


def test_the_stated_minutes_are_those_of_the_trial_runs() -> None:
    """Notebooks, exercises and the instructor's guide state the medians, as `tools/state_minutes.py` writes them."""
    assert [str(path.relative_to(ROOT)) for path in revised()] == []


def test_the_trial_runs_cover_the_course() -> None:
    """Every item has the minutes of a trial run, or the author's estimate, which only notebook 14 has."""
    tried = medians()
    missing = [
        f"{number} {item}"
        for number, exercises in course().items()
        for item in (READING, *(exercise.name for exercise in exercises))
        if item not in tried.get(number, {})
    ]
    assert missing == []
    with TRIALS.open(encoding="utf-8", newline="") as lines:
        assert {row["notebook"] for row in csv.DictReader(lines) if row["reader"] == AUTHOR} <= {*ON_CLUSTER}
    for notebook in (ROOT / "notebooks" / "build").glob("*.ipynb"):
        number, _, step = notebook.stem.partition("-")
        assert {READING, step} <= tried[f"build/{number}"].keys()


def test_a_median_is_rounded_up(tmp_path: Path) -> None:
    """Two readers with 4 and 7 minutes make 6; a third with 30 makes 7."""
    lines = ["reader,notebook,item,minutes", "a,01,reading,4", "b,01,reading,7"]
    trials = tmp_path / TRIALS.name
    trials.write_text("\n".join(lines), encoding="utf-8")
    assert medians(trials) == {"01": {"reading": 6}}
    trials.write_text("\n".join([*lines, "c,01,reading,30"]), encoding="utf-8")
    assert medians(trials) == {"01": {"reading": 7}}


def test_an_estimate_of_the_author_counts_until_a_reader_has_tried(tmp_path: Path) -> None:
    """The author's minutes stand for an item without a trial run, and are ignored as soon as there is one."""
    lines = ["reader,notebook,item,minutes", "author,14,reading,40"]
    trials = tmp_path / TRIALS.name
    trials.write_text("\n".join(lines), encoding="utf-8")
    assert medians(trials) == {"14": {"reading": 40}}
    trials.write_text("\n".join([*lines, "a,14,reading,60"]), encoding="utf-8")
    assert medians(trials) == {"14": {"reading": 60}}


@pytest.mark.parametrize("minutes", ["", "0", "-3", "nan", "ten"])
def test_a_line_without_minutes_is_refused(tmp_path: Path, minutes: str) -> None:
    """A line whose minutes are not a positive number is refused by its number."""
    trials = tmp_path / TRIALS.name
    trials.write_text(f"reader,notebook,item,minutes\na,01,reading,{minutes}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2: minutes is"):
        medians(trials)
