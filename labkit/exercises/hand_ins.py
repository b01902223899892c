"""A folder of hand-ins as one table, for instructors.

    python -m labkit.exercises.hand_ins FOLDER               a row for each learner, and the exercises that few solved
    python -m labkit.exercises.hand_ins FOLDER --html FILE   the same as a page, with every exercise of every learner

A hand-in is what `tasks.report("ada.html", who="Ada")` or `tasks.report("ada.json", who="Ada")` writes.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from labkit.errors import KitError
from labkit.exercises.hand_in import FORMAT, MARK, STYLE, page
from labkit.exercises.standing import FIELDS, SIGNS, Item, Standing
from labstack.config.paths import write_atomically


@dataclass(frozen=True)
class HandIn:
    """What a learner handed in.

    Attributes
    ----------
    who : str
        The learner's name; the file's name if there is none.
    written_at : str
        When it was written, in UTC.
    file : Path
        Its file.
    standing : Standing
        The items.
    """

    who: str
    written_at: str
    file: Path
    standing: Standing


class HandIns:
    """The newest hand-in of each learner in a folder.

    Parameters
    ----------
    folder : str or Path
        A folder with hand-ins, ``.html`` or ``.json``, also in its sub-folders.

    Raises
    ------
    KitError
        The folder does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise KitError(f"The folder {folder} does not exist.", next_step="name the folder with the hand-ins")
        self.unreadable: list[Path] = []
        """The files that are not hand-ins."""
        newest: dict[str, HandIn] = {}
        for file in sorted(path for path in folder.rglob("*") if path.suffix in (".html", ".json")):
            try:
                found = read(file)
            except (OSError, ValueError, LookupError, TypeError):
                self.unreadable.append(file)
                continue
            if found.who not in newest or newest[found.who].written_at <= found.written_at:
                newest[found.who] = found
        self.all = sorted(newest.values(), key=lambda one: one.who.casefold())
        """The hand-ins, by the learner's name."""

    @property
    def table(self) -> pd.DataFrame:
        """A row for each learner: what is solved by notebook and in all, predictions, and the last change."""
        rows = []
        for one in self.all:
            exercises, guesses = one.standing.exercises, one.standing.predictions
            row = {"learner": one.who, "solved": f"{exercises.done}/{exercises.total}"}
            row |= {number: f"{here.done}/{here.total}" for number, here in exercises.by_notebook().items()}
            row["predictions"] = f"{guesses.done}/{guesses.total}"
            row["last"] = max((item.at for item in one.standing), default="")[:16].replace("T", " ")
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def exercises(self) -> pd.DataFrame:
        """A row for each exercise: how many learners solved it, their attempts and hints, and who looked it up."""
        items = pd.DataFrame(
            [
                (i.notebook, i.name, i.state == "solved", i.attempts, i.hints, i.saw_solution)
                for one in self.all
                for i in one.standing.exercises
            ],
            columns=["notebook", "exercise", "solved", "attempts", "hints", "saw solution"],
        )
        return items.groupby(["notebook", "exercise"], sort=False).sum().reset_index()

    def __repr__(self) -> str:
        if not self.all:
            return "There is no hand-in here." + self._unread()
        lines = [self.table.to_string(index=False)]
        hard = self.exercises.query("attempts > 0").sort_values("solved", kind="stable").head(10)
        if not hard.empty:
            lines += ["", "Tried, and solved by the fewest:", hard.to_string(index=False)]
        return "\n".join(lines) + self._unread()

    def _repr_html_(self) -> str:
        if not self.all:
            return f"<p>{html.escape(repr(self))}</p>"
        return self._tables(Path.cwd())

    def _tables(self, folder: Path) -> str:
        """Return the tables as HTML for a page in a folder, with links to the hand-ins that are pages."""
        table = self.table.to_html(index=False, border=0)
        return f"{table}<h3>Every exercise</h3>{self._grid(folder)}<p>{html.escape(self._unread().strip())}</p>"

    def _unread(self) -> str:
        names = ", ".join(path.name for path in self.unreadable)
        return f"\nNot a hand-in: {names}." if names else ""

    def _grid(self, folder: Path) -> str:
        """Return a table with a row for each exercise and a column for each learner."""
        signs = {one.who: {item.name: item for item in one.standing} for one in self.all}
        names = dict.fromkeys((item.notebook, item.name) for one in self.all for item in one.standing.exercises)
        head = "".join(f"<th>{_linked(one, folder)}</th>" for one in self.all)
        rows = "".join(
            f"<tr><td>{html.escape(number)}</td><td>{html.escape(name)}</td>"
            + "".join(_cell(found.get(name)) for found in signs.values())
            + "</tr>"
            for number, name in names
        )
        return f"<table><tr><th></th><th>exercise</th>{head}</tr>{rows}</table>"

    def write(self, path: str | Path) -> Path:
        """Write the tables as a page, and return its path."""
        path = Path(path)
        content = self._tables(path.parent.absolute()) if self.all else html.escape(repr(self))
        write_atomically(path, page("Hand-ins", f"<h1>Hand-ins</h1>{content}", STYLE))
        return path


def read(file: Path) -> HandIn:
    """Read a hand-in, or raise ValueError, LookupError or TypeError if the file is none."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".html":
        text = text.split(MARK, 1)[1].split("</script>", 1)[0]
    content = json.loads(text)
    if content["format"] != FORMAT:
        raise ValueError(f"{file} has the format {content['format']}")
    items = [Item(**{name: value for name, value in item.items() if name in FIELDS}) for item in content["items"]]
    if unknown := {item.state for item in items} - set(SIGNS):
        raise ValueError(f"{file} has unknown states: {unknown}")
    return HandIn(str(content["who"] or file.stem), str(content["written_at"]), file, Standing(tuple(items)))


def _linked(one: HandIn, folder: Path) -> str:
    who = html.escape(one.who)
    if one.file.suffix != ".html":
        return who
    return f'<a href="{quote(Path(os.path.relpath(one.file.absolute(), folder)).as_posix())}">{who}</a>'


def _cell(item: Item | None) -> str:
    if item is None:
        return "<td></td>"
    details = f"{item.state}, {item.attempts} attempts, {item.hints} hints"
    return f'<td title="{details}{", saw the solution" if item.saw_solution else ""}">{item.sign}</td>'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m labkit.exercises.hand_ins",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the folder with the hand-ins")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the tables as a page")
    chosen = parser.parse_args(arguments)
    try:
        found = HandIns(chosen.folder)
        print(found)
        if chosen.html:
            print(f"\nThe page is in {found.write(chosen.html)}.")
    except (KitError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
