#!/usr/bin/env python3
"""State the minutes of notebooks and exercises as the medians of the trial runs in docs/trials/minutes.csv.

    python tools/state_minutes.py            rewrite the exercises, the notebooks and docs/instructors.md
    python tools/state_minutes.py --check    change nothing, and name what would change

The board of exercises in notebook 00 is an output; `tools/save_notebooks.py notebooks/00-*.ipynb` renews it.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import statistics
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRIALS = ROOT / "docs" / "trials" / "minutes.csv"
GUIDE = ROOT / "docs" / "instructors.md"
AUTHOR = "author"
"""The reader of an estimate without a trial run. It counts only for an item that no reader has tried."""
READING = "reading"
"""The item of a notebook without its exercises."""

EXERCISE = r"(`([\w-]+)`\*\* [●○]{3} )(\d+) min"
"""An exercise's heading in a notebook."""


def medians(path: Path = TRIALS) -> dict[str, dict[str, int]]:
    """Return the median of the readers' minutes for each item of each notebook, rounded up to whole minutes.

    For an item that no reader has tried, it is the author's estimate.

    Raises
    ------
    ValueError
        A line has no positive number of minutes.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    estimated: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines), start=2):
            try:
                minutes = float(row["minutes"])
            except (TypeError, ValueError):
                minutes = math.nan
            if not minutes > 0:
                raise ValueError(f"{path.name}, line {number}: minutes is {row['minutes']!r}, not a positive number")
            (estimated if row["reader"] == AUTHOR else found)[row["notebook"]][row["item"]].append(minutes)
    for notebook, items in estimated.items():
        for item, values in items.items():
            found[notebook].setdefault(item, values)
    return {
        notebook: {item: max(1, math.ceil(statistics.median(values))) for item, values in items.items()}
        for notebook, items in found.items()
    }


def revised() -> dict[Path, str]:
    """Return the new text of each file that states other minutes than the trial runs.

    An item without a trial run keeps the minutes that it has.
    """
    trials = medians()
    exercises = {name: n for items in trials.values() for name, n in items.items() if name != READING}
    new = {GUIDE: GUIDE.read_text(encoding="utf-8")}
    for path in sorted((ROOT / "labkit" / "exercises").rglob("*.py")):
        new[path] = _in_code(path.read_text(encoding="utf-8"), exercises)
    for path in sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks" / "build").glob("*.ipynb")]):
        number = _number(path)
        new[path], parts = _in_notebook(path.read_text(encoding="utf-8"), trials.get(number, {}))
        new[GUIDE] = re.sub(rf"(\| \[{number}\]\(.*\| )\d+ to read .*?( \|)", rf"\g<1>{parts}\2", new[GUIDE])
    return {path: text for path, text in new.items() if text != path.read_text(encoding="utf-8")}


def _number(path: Path) -> str:
    """Return a notebook's number, such as ``03`` or ``build/1``."""
    number = path.name.partition("-")[0]
    return f"build/{number}" if path.parent.name == "build" else number


def _in_code(text: str, exercises: dict[str, int]) -> str:
    def state(match: re.Match[str]) -> str:
        return f"{match[1]}{exercises[match[2]]}" if match[2] in exercises else match[0]

    return re.sub(r'(    name = "([\w-]+)"\n(?:    \w.*\n)*?    minutes = )\d+', state, text)


def _in_notebook(text: str, items: dict[str, int]) -> tuple[str, str]:
    """Return the notebook's new text, and its minutes in the words of the guide.

    Raises
    ------
    ValueError
        The notebook does not state its minutes in the expected words.
    """
    text = re.sub(EXERCISE, lambda found: f"{found[1]}{items.get(found[2], found[3])} min", text)
    stated = re.search(r"\*\*Minutes:\*\* \d+ \((\d+) to read and run, (\d+) (for the exercises|to build)\)", text)
    if stated is None:
        raise ValueError(f"no line such as '**Minutes:** 25 (10 to read and run, 15 for the exercises)' in {text[:80]}")
    reading = items.get(READING, int(stated[1]))
    if stated[3] == "to build":
        rest = sum(n for name, n in items.items() if name != READING) or int(stated[2])
    else:
        rest = sum(int(minutes) for _, _, minutes in re.findall(EXERCISE, text))
    parts = f"{reading} to read and run, {rest} {stated[3]}"
    return text.replace(stated[0], f"**Minutes:** {reading + rest} ({parts})"), parts


def main() -> int:
    """Run the command line, and return the exit status: 1 if --check finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if something would change")
    check = parser.parse_args().check
    changed = revised()
    for path, text in changed.items():
        print(path.relative_to(ROOT))
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and changed else 0


if __name__ == "__main__":
    raise SystemExit(main())
