"""Looking at something again and again while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import pandas as pd

from labkit.errors import KitError

Value = float | Mapping[str, float]


class Samples:
    """Asks for a number, or for several with names, every so often, in a thread of its own, until the block ends.

    Parameters
    ----------
    probe : callable
        The question. A question that fails is left out, as nobody knows the answer then.
    every : float
        Seconds from one question to the next.

    Examples
    --------
    >>> with Samples(lambda: look.number("sum(saga_open_orders)")) as in_flight:
    ...     shop.load(40, per_second=4)
    >>> in_flight.mean()
    """

    def __init__(self, probe: Callable[[], Value], every: float = 0.2) -> None:
        self._probe = probe
        self._every = every
        self._seen: list[tuple[float, Value]] = []
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="samples", daemon=True)

    def __enter__(self) -> Samples:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(self._every):
            moment = time.time()
            try:
                self._seen.append((moment, self._probe()))
            except Exception as error:  # told if there is nothing else to tell
                self._error = error

    def table(self) -> pd.DataFrame:
        """Return what was seen: a row for each question, its index in seconds since the first.

        Raises
        ------
        KitError
            No question was answered.
        """
        if not self._seen:
            raise KitError(
                f"Nothing was seen: {self._error or 'the block ended before the first look'}.",
                next_step="`lab` shows whether every part runs",
            )
        rows = [value if isinstance(value, Mapping) else {"value": value} for _, value in self._seen]
        first = self._seen[0][0]
        return pd.DataFrame(rows, index=pd.Index([at - first for at, _ in self._seen], name="seconds"), dtype=float)

    @property
    def began(self) -> float:
        """The moment of the first sample, in seconds since 1970."""
        return self._seen[0][0]

    def mean(self) -> float:
        """Return the mean over time, of all values together: a value counts for as long as it was the last known."""
        total = self.table().sum(axis=1)
        lasted = total.index.to_series().diff().shift(-1).dropna()
        if lasted.empty:
            return float(total.iloc[0])
        return float((total.iloc[:-1] * lasted).sum() / lasted.sum())
