"""The page of exercises, by notebook and name."""

from __future__ import annotations

from pathlib import Path

from labkit.exercises import course
from tools.book.reference.markdown import join, table

OPENING = """
# Exercises

Each exercise is set up, checked, helped and put back by its name, within its notebook: `tasks.setup(NAME)`,
`tasks.check(NAME, answer)`, `tasks.hint(NAME)`, `tasks.solution(NAME)`, `tasks.cleanup(NAME)`. `tasks.progress()` shows
which of them you have solved.
"""


def page(root: Path) -> str:
    """Return the page."""
    parts = []
    for notebook, exercises in course().items():
        (path,) = (root / "notebooks").glob(f"{notebook}-*.ipynb")
        rows = [
            (str(number), f"`{exercise.name}`", exercise.title, exercise.effort)
            for number, exercise in enumerate(exercises, start=1)
        ]
        parts += [
            f"## Notebook {notebook}",
            f"[Go there](../notebooks/{path.name})",
            table(["", "name", "task", "effort"], rows),
        ]
    total = sum(len(exercises) for exercises in course().values())
    return join(OPENING, f"There are {total} of them.", *parts)
