"""Skip the cells of a notebook whose lessons need something that this lab does not have."""

from __future__ import annotations

from IPython import get_ipython

from labstack.lifecycle.report import in_notebook


class SkippedCell:
    """An input transformer of IPython that replaces each cell by one that prints a sentence.

    A cell that calls ``begin`` still runs, so the learner can attach to another lab in the same kernel.

    Parameters
    ----------
    sentence : str
        The sentence that each cell prints.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines of the cell to run."""
        return lines if any("begin(" in line for line in lines) else [f"print({self.sentence!r})\n"]


def skip_cells(sentence: str) -> None:
    """Print a sentence instead of running the cells of this kernel, until `run_cells` is called."""
    if in_notebook():
        run_cells()
        _transformers().insert(0, SkippedCell(sentence))


def run_cells() -> None:
    """Run the cells of this kernel again."""
    if in_notebook():
        kept = [one for one in _transformers() if not isinstance(one, SkippedCell)]
        _transformers()[:] = kept


def _transformers() -> list[object]:
    found: list[object] = get_ipython().input_transformers_cleanup
    return found
