"""Many requests through the gateway, and their answers: by which version, with which status, and how fast."""

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

from labkit.client.shares import CONFIDENCE, interval, is_plausible
from labkit.errors import KitError
from labkit.waiting import wait_until
from labstack.arguments import Portion, Seconds, checked_class
from labstack.clients import http
from labstack.gateway.access_log import FLAGS

VERSION_HEADER = "x-service-version"
GATEWAY = "gateway"
"""The sender of an answer that comes from no service."""

MAX_SECONDS = 600.0

UNSENDABLE = (httpx.InvalidURL, TypeError, ValueError)
"""The errors of httpx about arguments that no request can carry."""

NOTHING = "-"
"""The response flags, in the access log, of a request whose answer Envoy did not affect."""

Log = Callable[[int], list[dict[str, Any]]]
"""Returns the last lines of the gateway's access log."""


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to one request.

    Attributes
    ----------
    status : int
        The HTTP status; 0 if the connection broke.
    version : str
        The version of the service that answered; ``gateway`` if no service did.
    seconds : float
        Time from sending the request to the end of the answer.
    trace : str
        The id of the request's trace, by which the access log identifies the request.
    """

    status: int
    version: str
    seconds: float
    trace: str


@dataclass(frozen=True)
class Share:
    """The comparison of a measured share with an expected one, with allowance for chance.

    Attributes
    ----------
    who : str
        A version, or a status.
    hits, times : int
        The number of hits, and the number of requests.
    expected : float
        The expected share, from 0 to 1.
    """

    who: str
    hits: int
    times: int
    expected: float

    @property
    def interval(self) -> tuple[float, float]:
        """The exact (Clopper-Pearson) confidence interval of the share, at 99.99%."""
        return interval(self.hits, self.times)

    @property
    def holds(self) -> bool:
        """Whether the expected share lies within that interval."""
        return is_plausible(self.hits, self.times, self.expected)

    def __bool__(self) -> bool:
        return self.holds

    def __repr__(self) -> str:
        text = f"{self.who}: {self.expected:.0%} of {self.times} requests"
        if self.holds:
            return f"{text}: within the {CONFIDENCE:.2%} interval"
        low, high = self.interval
        return f"{text}: no, it was {self.hits} ({self.hits / self.times:.1%}); that speaks for {low:.1%} to {high:.1%}"


@checked_class
class Traffic:
    """The answers to a number of requests.

    Parameters
    ----------
    what : str
        The request, such as ``GET /orders?limit=1``.
    answers : list of HttpAnswer
        In the order in which the requests were sent.
    log : callable
        Returns the last lines of the access log.
    """

    def __init__(self, what: str, answers: list[HttpAnswer], log: Log) -> None:
        self.what = what
        self.answers = answers
        self._log = log
        self._lines: list[dict[str, Any]] = []

    @property
    def statuses(self) -> dict[int, int]:
        """The number of requests by status."""
        return dict(sorted(Counter(answer.status for answer in self.answers).items()))

    @property
    def versions(self) -> dict[str, int]:
        """The number of requests by the version of the service that answered, or by the gateway itself."""
        return dict(sorted(Counter(answer.version for answer in self.answers).items()))

    @property
    def fastest(self) -> float:
        """The time of the fastest answer, in seconds."""
        return min(self._durations())

    @property
    def slowest(self) -> float:
        """The time of the slowest answer, in seconds."""
        return max(self._durations())

    def _durations(self) -> list[float]:
        if not self.answers:
            raise KitError("There is no such request.", next_step="`.table()` of all requests shows what there is")
        return [answer.seconds for answer in self.answers]

    def table(self) -> pd.DataFrame:
        """Return the number of requests by sender and status of the answer."""
        counts = Counter((answer.version, answer.status) for answer in self.answers)
        rows = [(*what, number) for what, number in sorted(counts.items())]
        return pd.DataFrame(rows, columns=["answered by", "status", "requests"])

    def shares(self) -> dict[str, float]:
        """Return the share of the requests that each version answered, from 0 to 1."""
        return {who: number / len(self.answers) for who, number in self.versions.items()}

    def share(self, who: str | int, expected: Portion) -> Share:
        """Compare the share of a version, or of a status, with the expected share.

        The comparison holds if the exact (Clopper-Pearson) confidence interval of the measured share, at 99.99%,
        contains the expected share. Chance alone makes it fail at most once in ten thousand times.

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
        """Return the requests that have a response flag in the access log."""
        traces = {_trace_of(line) for line in self.log() if flag in line["response_flags"].split(",")}
        return Traffic(self.what, [answer for answer in self.answers if answer.trace in traces], self._log)

    def log(self, timeout: Seconds = 10) -> list[dict[str, Any]]:
        """Return the access log's lines of these requests. Wait for lines that are not written yet."""
        wanted = {answer.trace for answer in self.answers}

        def written() -> list[dict[str, Any]]:
            found = [entry for entry in self._log(10 * len(wanted) + 2000) if _trace_of(entry) in wanted]
            return found if len(found) >= len(wanted) else []

        if not self._lines:  # keep the lines once found, because the log grows
            self._lines = wait_until(written, timeout, what=f"{len(wanted)} lines in the gateway's access log")
        return self._lines

    def flags(self) -> pd.DataFrame:
        """Return the number of these requests by status, response flags and their meaning, and number of attempts.

        The values come from the gateway's access log.
        """
        return by_flag(self.log())

    def chart(self, title: str = "") -> None:
        """Draw each answer's sender and duration."""
        from labkit.views.drawing.charts import traffic_chart

        traffic_chart(self, title or f"{len(self.answers)} × {self.what}")

    def __repr__(self) -> str:
        parts = [f"{number} × {status} from {who}" for who, status, number in self.table().itertuples(index=False)]
        return f"{len(self.answers)} × {self.what}: {', '.join(parts)}"


def _trace_of(line: dict[str, Any]) -> str:
    """Return the trace id of a line in the access log. A gateway that traces replaces the span id after it."""
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
    """Send the same request repeatedly, and return the answers; see `Shop.traffic`."""
    if per_second and times / per_second > MAX_SECONDS:
        raise KitError(
            f"{times} requests at {per_second:g} a second take {times / per_second:,.0f} s.",
            next_step=f"send fewer, or more per second: at most {MAX_SECONDS:g} s",
        )
    _require_sendable(origin, path, method, headers, body)
    limits = httpx.Limits(max_connections=None)
    with http.client(origin, timeout=timeout, limits=limits) as client:
        first = time.monotonic()

        def one(number: int) -> HttpAnswer:
            if per_second:
                time.sleep(max(0.0, first + number / per_second - time.monotonic()))
            trace = secrets.token_hex(16)
            traceparent = f"00-{trace}-{secrets.token_hex(8)}-00"
            began = time.monotonic()
            try:
                answer = client.request(
                    method, path, headers={**(headers or {}), "traceparent": traceparent}, json=body
                )
                status, version = answer.status_code, answer.headers.get(VERSION_HEADER, GATEWAY)
            except httpx.HTTPError:
                status, version = 0, GATEWAY
            return HttpAnswer(status, version, time.monotonic() - began, trace)

        with ThreadPoolExecutor(at_once) as pool:
            return Traffic(f"{method} {path}", list(pool.map(one, range(times))), log)


def _require_sendable(origin: str, path: str, method: str, headers: Mapping[str, str] | None, body: Any) -> None:
    try:
        if not path.startswith("/"):
            raise ValueError("the path does not start with /")
        if not (method.isascii() and method.isalpha()):
            raise ValueError("the method is not a word such as GET")
        httpx.Request(method, origin + path, headers=headers, json=body)
    except UNSENDABLE as error:
        raise unsendable(method, path, error) from None


def unsendable(method: str, path: str, error: Exception) -> KitError:
    """Return the error for a request that can't be sent, with the reason."""
    return KitError(
        f"The request {method} {path[:80]} can't be sent: {error}.",
        next_step="write the path with its leading /, headers in ASCII, and a body that JSON can hold",
    )


def by_flag(entries: list[dict[str, Any]]) -> pd.DataFrame:
    """Count the lines of an access log by status, response flags and attempts."""
    counts = Counter((entry["response_code"], entry["response_flags"], entry.get("attempts") or 0) for entry in entries)
    rows = [(status, flags, meaning(flags), tries, n) for (status, flags, tries), n in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["status", "flag", "meaning", "tries", "requests"])


def meaning(flags: str) -> str:
    """Return response flags in words: ``UF,URX`` is "no connection to the service; all retries are used up"."""
    if flags == NOTHING:
        return NOTHING
    return "; ".join(FLAGS.get(flag, flag) for flag in flags.split(","))
