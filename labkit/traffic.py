"""Many requests through the gateway, and what came of them: who answered, what, and in how long."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pandas as pd

from labkit.shares import CONFIDENCE, interval, is_plausible
from labkit.waiting import wait_until
from labstack.mesh.access_log import FLAGS

VERSION_HEADER = "x-service-version"
GATEWAY = "gateway"
"""Who answered where no service did."""

NOTHING = "-"
"""A request in which Envoy had nothing to do with the answer has no response flag."""

Log = Callable[[int], list[dict[str, Any]]]
"""Gives the last lines of the gateway's access log."""


@dataclass(frozen=True)
class Answer:
    """What one request was answered with.

    Attributes
    ----------
    status : int
        The HTTP status; 0 where the connection broke.
    version : str
        Which version of the service answered; ``gateway`` where none did.
    seconds : float
        From sending to the end of the answer.
    trace : str
        The id of the request's trace, by which the access log knows it.
    """

    status: int
    version: str
    seconds: float
    trace: str


@dataclass(frozen=True)
class Share:
    """Whether a measured share is what it should be, but for chance.

    Attributes
    ----------
    who : str
        A version, or a status.
    hits, times : int
        How many of how many requests.
    expected : float
        The share that it should be, from 0 to 1.
    """

    who: str
    hits: int
    times: int
    expected: float

    @property
    def interval(self) -> tuple[float, float]:
        """The shares of which this measurement may be one, with 99.99% confidence (Clopper and Pearson's, exact)."""
        return interval(self.hits, self.times)

    @property
    def holds(self) -> bool:
        """Whether the expected share is within that interval."""
        return is_plausible(self.hits, self.times, self.expected)

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        claim = f"{self.who}: {self.expected:.0%} of {self.times} requests"
        if self.holds:
            return f"{claim}: within the {CONFIDENCE:.2%} interval"
        low, high = self.interval
        return (
            f"{claim}: no, it was {self.hits} ({self.hits / self.times:.1%}); that speaks for {low:.1%} to {high:.1%}"
        )


class Traffic:
    """What a number of requests was answered with.

    Parameters
    ----------
    what : str
        What was asked, such as ``GET /orders?limit=1``.
    answers : list of Answer
        In the order in which they were sent.
    log : callable
        Gives the last lines of the access log.
    """

    def __init__(self, what: str, answers: list[Answer], log: Log) -> None:
        self.what = what
        self.answers = answers
        self._log = log
        self._lines: list[dict[str, Any]] = []

    @property
    def statuses(self) -> dict[int, int]:
        """How many requests got which status."""
        return dict(sorted(Counter(answer.status for answer in self.answers).items()))

    @property
    def versions(self) -> dict[str, int]:
        """How many requests were answered by which version of the service, or by the gateway itself."""
        return dict(sorted(Counter(answer.version for answer in self.answers).items()))

    @property
    def fastest(self) -> float:
        """Seconds that the fastest answer took."""
        return min(answer.seconds for answer in self.answers)

    @property
    def slowest(self) -> float:
        """Seconds that the slowest answer took."""
        return max(answer.seconds for answer in self.answers)

    def table(self) -> pd.DataFrame:
        """Return how many requests were answered by whom, with which status."""
        counts = Counter((answer.version, answer.status) for answer in self.answers)
        rows = [(*what, number) for what, number in sorted(counts.items())]
        return pd.DataFrame(rows, columns=["answered by", "status", "requests"])

    def shares(self) -> dict[str, float]:
        """Return which share of the requests each version answered, from 0 to 1."""
        return {who: number / len(self.answers) for who, number in self.versions.items()}

    def share(self, who: str | int, expected: float) -> Share:
        """Compare the share of a version, or of a status, with what it should be.

        It holds if the exact (Clopper-Pearson) confidence interval of the measured share, at 99.99%, contains the
        expected one. So chance alone makes it fail once in ten thousand times, at most.

        Parameters
        ----------
        who : str or int
            ``v1``, ``v2`` or ``gateway``; or a status; or a response flag, such as ``DI``.
        expected : float
            From 0 to 1.

        Examples
        --------
        >>> shop.traffic(400, at_once=4).share("v2", 0.1)
        v2: 10% of 400 requests: within the 99.99% interval
        """
        if isinstance(who, int):
            hits = self.statuses.get(who, 0)
        else:
            hits = len(self.flagged(who).answers) if who in FLAGS else self.versions.get(who, 0)
        return Share(str(who), hits, len(self.answers), expected)

    def flagged(self, flag: str) -> Traffic:
        """Return those of these requests that have a response flag in the access log."""
        traces = {_trace_of(line) for line in self.log() if flag in line["response_flags"].split(",")}
        return Traffic(self.what, [answer for answer in self.answers if answer.trace in traces], self._log)

    def log(self, timeout: float = 10) -> list[dict[str, Any]]:
        """Return the access log's lines of these requests, waiting for those that are still to be written."""
        wanted = {answer.trace for answer in self.answers}

        def written() -> list[dict[str, Any]]:
            found = [entry for entry in self._log(10 * len(wanted) + 2000) if _trace_of(entry) in wanted]
            return found if len(found) >= len(wanted) else []

        if not self._lines:  # once found they are kept: the log goes on
            self._lines = wait_until(written, timeout, what=f"{len(wanted)} lines in the gateway's access log")
        return self._lines

    def flags(self) -> pd.DataFrame:
        """Return what the gateway's access log says of these requests: statuses, response flags, what they mean, and
        how often the request was sent to a service.
        """
        return by_flag(self.log())

    def chart(self, title: str = "") -> None:
        """Draw who answered what in how long."""
        from labkit.views.charts import traffic_chart

        traffic_chart(self, title or f"{len(self.answers)} × {self.what}")

    def __repr__(self) -> str:
        parts = [f"{number} × {status} from {who}" for who, status, number in self.table().itertuples(index=False)]
        return f"{len(self.answers)} × {self.what}: {', '.join(parts)}"


def _trace_of(line: dict[str, Any]) -> str:
    """Return the id of the trace of a line in the access log; a gateway that traces has put its own span behind it."""
    return (line.get("traceparent") or "").partition("-")[2].partition("-")[0]


def send(
    origin: str,
    log: Log,
    times: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    at_once: int = 1,
    per_second: float | None = None,
    timeout: float = 30,
) -> Traffic:
    """Send the same request again and again, and return what came of it; see `Shop.traffic`."""
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=origin, timeout=timeout, trust_env=False, limits=limits) as client:
        first = time.monotonic()

        def one(number: int) -> Answer:
            if per_second:
                time.sleep(max(0.0, first + number / per_second - time.monotonic()))
            trace = secrets.token_hex(16)
            here = f"00-{trace}-{secrets.token_hex(8)}-00"
            began = time.monotonic()
            try:
                answer = client.request(method, path, headers={**(headers or {}), "traceparent": here}, json=body)
                status, version = answer.status_code, answer.headers.get(VERSION_HEADER, GATEWAY)
            except httpx.HTTPError:
                status, version = 0, GATEWAY
            return Answer(status, version, time.monotonic() - began, trace)

        with ThreadPoolExecutor(at_once) as pool:
            return Traffic(f"{method} {path}", list(pool.map(one, range(times))), log)


def by_flag(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Count the lines of an access log by status, response flags and tries."""
    counts = Counter((entry["response_code"], entry["response_flags"], entry.get("attempts") or 0) for entry in entries)
    rows = [(status, flags, meaning(flags), tries, n) for (status, flags, tries), n in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["status", "flag", "meaning", "tries", "requests"])


def meaning(flags: str) -> str:
    """Say response flags in words: ``UF,URX`` is "no connection to the service; all retries are used up"."""
    if flags == NOTHING:
        return NOTHING
    return "; ".join(FLAGS.get(flag, flag) for flag in flags.split(","))
