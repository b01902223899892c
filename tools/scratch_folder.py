"""A folder in which a notebook runs without the learner's own files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WORK = "work"
"""The folder beside a notebook in which a learner's files are."""


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder with links to the files of a notebook's folder, but without the folder ``work``.

    A notebook that runs there finds no file of the learner's, and overwrites none.

    Parameters
    ----------
    folder : Path
        The notebook's folder. A folder inside that of other notebooks, such as ``notebooks/build``, keeps its place
        among them.
    """
    top = folder.parent if any(folder.parent.glob("*.ipynb")) else folder
    with tempfile.TemporaryDirectory(prefix="saga-lab-notebooks-") as name:
        scratch = Path(name).resolve() / top.name
        for original in {top, folder}:
            copy = scratch / original.relative_to(top)
            copy.mkdir(parents=True, exist_ok=True)
            for entry in original.iterdir():
                if entry.name != WORK and entry != folder:
                    (copy / entry.name).symlink_to(entry.resolve())
        yield scratch / folder.relative_to(top)
