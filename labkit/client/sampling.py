"""Repeated measurements in the background of other work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

import pandas as pd

from labkit.errors import KitError
from labstack.arguments import Positive, checked

Value = float | Mapping[str, float]


class Samples:
    """Measures a number, or several named ones, at a fixed interval in a separate thread until the block ends.

    Parameters
    ----------
    probe : callable
        Returns the value or values. A measurement that raises is left out, because its value is unknown.
    every : float
        Seconds between two measurements.

    Examples
    --------
    >>> with Samples(lambda: look.metrics.number("sum(saga_open_orders)")) as in_flight:
    ...     shop.load(40, per_second=4)
    >>> in_flight.mean()
    """

    @checked
    def __init__(self, probe: Callable[[], Value], every: Positive = 0.2) -> None:
        self._probe = probe
        self._every = every
        self._measurements: list[tuple[float, Value]] = []
        self._error: Exception | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="samples", daemon=True)

    def __enter__(self) -> Samples:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stopping.wait(self._every):
            moment = time.time()
            try:
                self._measurements.append((moment, self._probe()))
            except Exception as error:  # reported if no measurement succeeds
                self._error = error

    def table(self) -> pd.DataFrame:
        """Return the measurements: a row for each, indexed by the seconds since the first.

        Raises
        ------
        KitError
            No measurement succeeded.
        """
        self._require_some()
        rows = [value if isinstance(value, Mapping) else {"value": value} for _, value in self._measurements]
        first = self._measurements[0][0]
        return pd.DataFrame(
            rows, index=pd.Index([at - first for at, _ in self._measurements], name="seconds"), dtype=float
        )

    @property
    def began(self) -> float:
        """The time of the first measurement, in seconds since 1970."""
        self._require_some()
        return self._measurements[0][0]

    def _require_some(self) -> None:
        if not self._measurements:
            raise KitError(
                f"No measurement succeeded: {self._error or 'the block ended before the first'}.",
                next_step="`lab` shows whether every component runs; a longer block takes more measurements",
            )

    def mean(self) -> float:
        """Return the mean over time of the sum of all values. Each value counts until the next measurement."""
        total = self.table().sum(axis=1)
        lasted = total.index.to_series().diff().shift(-1).dropna()
        if lasted.empty:
            return float(total.iloc[0])
        return float((total.iloc[:-1] * lasted).sum() / lasted.sum())
