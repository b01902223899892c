"""A lab that is shared with the notebooks, and workplaces for files in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit.build.workplace import Workplace
from labstack import Lab

MakePlace = Callable[[str], Workplace]


@pytest.fixture
def make_place(course_lab: Lab, tmp_path: Path) -> Iterator[MakePlace]:
    """Make workplaces for files with some code, and close them after the test."""
    made: list[Workplace] = []

    def make(code: str) -> Workplace:
        file = tmp_path / f"file{len(made)}.py"
        file.write_text(code, encoding="utf-8")
        made.append(Workplace(course_lab, file))
        return made[-1]

    yield make
    for place in made:
        place.close()
