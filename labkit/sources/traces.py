"""Traces, read from Jaeger if the lab has it, otherwise from the files that the services write.

Both hold OpenTelemetry spans. Source: OpenTelemetry specification, "Trace"; OTLP, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import pandas as pd

from labkit.errors import KitError
from labkit.sources.http_source import HttpSource
from labservices.contract import SERVICES
from labstack.arguments import checked_class

KINDS = {0: "", 1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
ERROR = 2
"""OTLP's status code of a failed span."""

RELAY = "debezium"


class NoTraces(KitError):
    """The lab stores no traces, or the trace store does not answer."""


@dataclass(frozen=True)
class Span:
    """One span.

    Attributes
    ----------
    trace_id, span_id, parent_id : str
        Hexadecimal. A span without a parent is the first of its trace.
    service, name, kind : str
        The service, its operation, and ``server``, ``producer``, ``consumer`` or ``internal``.
    start, end : int
        Nanoseconds since 1970.
    attributes : dict
        The span's attributes.
    failed : bool
        Whether the span ended with an error.
    error : str
        The error's description.
    """

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Any] = field(default_factory=dict)
    failed: bool = False
    error: str = ""

    @property
    def milliseconds(self) -> float:
        """The duration of the span."""
        return (self.end - self.start) / 1e6

    @property
    def label(self) -> str:
        """The span's name, preceded by the service's name unless it starts with it."""
        return self.name if self.name.startswith(self.service) else f"{self.service}: {self.name}"


class Trace:
    """All spans of one trace, in order of their start.

    Parameters
    ----------
    spans : iterable of Span
        The spans of one trace. A span that was recorded several times is kept once.
    """

    def __init__(self, spans: Iterable[Span]) -> None:
        unique = {span.span_id: span for span in spans}
        self.spans = sorted(unique.values(), key=lambda span: (span.start, -span.end))
        self._by_id = unique

    @property
    def trace_id(self) -> str:
        return self.spans[0].trace_id

    @property
    def roots(self) -> list[Span]:
        """The spans whose parent is not recorded: exactly one in a complete trace."""
        return [span for span in self.spans if span.parent_id not in self._by_id]

    @property
    def milliseconds(self) -> float:
        """The time from the first start to the last end."""
        return (max(span.end for span in self.spans) - self.spans[0].start) / 1e6

    def children(self, of: Span) -> list[Span]:
        """Return the child spans of a span, in order of their start."""
        return [span for span in self.spans if span.parent_id == of.span_id]

    def edges(self) -> set[tuple[str, str]]:
        """Return the pairs of parent and child span, by their labels."""
        pairs = ((self._by_id.get(span.parent_id), span) for span in self.spans)
        return {(parent.label, child.label) for parent, child in pairs if parent}

    def table(self) -> pd.DataFrame:
        """Return a row for each span: its start (ms after the first), duration, service, name and error."""
        zero = self.spans[0].start
        rows = [
            {
                "begins (ms)": round((span.start - zero) / 1e6, 1),
                "takes (ms)": round(span.milliseconds, 1),
                "service": span.service,
                "span": span.name,
                "error": span.error.split("\n")[0] if span.failed else "",
            }
            for _, span in self.walk()
        ]
        return pd.DataFrame(rows)

    def walk(self) -> list[tuple[int, Span]]:
        """Return every span with its depth, each before its children."""
        found: list[tuple[int, Span]] = []

        def visit(span: Span, depth: int) -> None:
            found.append((depth, span))
            for child in self.children(span):
                visit(child, depth + 1)

        for root in self.roots:
            visit(root, 0)
        return found

    def tree(self, below: str = "") -> str:
        """Return the spans as an indented tree, with names and failures but without times.

        Parameters
        ----------
        below : str
            The label of the span at the top of the tree; by default the whole trace is shown.
        """

        def lines(span: Span, depth: int) -> list[str]:
            below = sorted(self.children(span), key=lambda child: child.label)
            mark = "  ✗" if span.failed else ""
            return ["  " * depth + span.label + mark, *(line for child in below for line in lines(child, depth + 1))]

        begins = [span for span in self.spans if span.label == below] if below else self.roots
        return "\n".join(line for first in begins for line in lines(first, 0))

    def path(self, name: str) -> list[Span]:
        """Return the spans that led to the first span of a name, from the root to that span; empty if there is none."""
        span = next((span for span in self.spans if span.name == name), None)
        found: list[Span] = []
        while span is not None:
            found.append(span)
            span = self._by_id.get(span.parent_id)
        return found[::-1]

    def slowest(self, to: str = "") -> Span:
        """Return the span with the longest duration, not counting the time covered by its children.

        Parameters
        ----------
        to : str
            The name of a span, to choose only from the spans that led to it (see `path`); by default from all.

        Raises
        ------
        KitError
            No span has this name.
        """
        spans = self.path(to) if to else self.spans
        if not spans:
            raise KitError(f"The trace has no span {to!r}.", next_step=".table() shows the names of its spans")
        return max(spans, key=self.own_milliseconds)

    def own_milliseconds(self, span: Span) -> float:
        """Return the duration of a span without the time that its children cover."""
        covered, upto = 0, span.start
        for child in self.children(span):
            begin, end = max(child.start, upto), min(child.end, span.end)
            if end > begin:
                covered += end - begin
                upto = end
        return (span.end - span.start - covered) / 1e6


class Source(Protocol):
    """A store of traces."""

    def of_order(self, order_id: str) -> list[Trace]:
        """Return the traces that mention an order, oldest first."""

    def trace(self, trace_id: str) -> Trace | None:
        """Return one trace, or None if it is not there."""


@checked_class
class JaegerSource(HttpSource):
    """Reads traces from Jaeger, over its HTTP API.

    Parameters
    ----------
    url : str
        Jaeger's base URL.
    """

    component = "Jaeger"
    unavailable = NoTraces
    installation = "`lab install jaeger` installs it, then `lab up` adds it to the running lab"
    meanwhile = "orders go on without it"

    def of_order(self, order_id: str) -> list[Trace]:
        ids: set[str] = set()
        for service in SERVICES:
            tags = json.dumps({"order.id": order_id})
            found = self._get("/api/traces", {"service": service, "tags": tags, "limit": "50"})
            ids |= {trace["traceID"] for trace in found}
        traces = [trace for one in ids if (trace := self.trace(one))]
        return sorted(traces, key=lambda trace: trace.spans[0].start)

    def trace(self, trace_id: str) -> Trace | None:
        found = self._get(f"/api/traces/{quote(trace_id, safe='')}", {}, absent=404)
        spans = [span for trace in found for span in _of_jaeger(trace)]
        return Trace(spans) if spans else None

    def _get(self, path: str, parameters: dict[str, str], absent: int = 0) -> list[dict[str, Any]]:
        answer = self._request("GET", path, params=parameters)
        found: list[dict[str, Any]] = [] if answer.status_code == absent else self._json(answer)["data"]
        return found or []


@checked_class
class FileSource:
    """Reads the files that the services write if there is no Jaeger.

    Parameters
    ----------
    read : callable
        Returns the text of every file.
    """

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read

    def of_order(self, order_id: str) -> list[Trace]:
        spans = self._spans()
        ids = {span.trace_id for span in spans if span.attributes.get("order.id") == order_id}
        traces = [Trace(span for span in spans if span.trace_id == one) for one in ids]
        return sorted(traces, key=lambda trace: trace.spans[0].start)

    def trace(self, trace_id: str) -> Trace | None:
        spans = [span for span in self._spans() if span.trace_id == trace_id]
        return Trace(spans) if spans else None

    def _spans(self) -> list[Span]:
        return [span for text in self._read() for line in text.splitlines() for span in _of_line(line)]


def _of_line(line: str) -> Iterable[Span]:
    """Read the spans of a line; skip an incomplete line, which the next read returns."""
    try:
        request = json.loads(line)
    except ValueError:
        return
    for resource in request.get("resourceSpans", []):
        service = _attributes(resource["resource"].get("attributes", []))["service.name"]
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                failed = span.get("status", {}).get("code") == ERROR
                yield Span(
                    span["traceId"],
                    span["spanId"],
                    span.get("parentSpanId", ""),
                    str(service),
                    span["name"],
                    KINDS.get(span.get("kind", 0), ""),
                    int(span["startTimeUnixNano"]),
                    int(span["endTimeUnixNano"]),
                    _attributes(span.get("attributes", [])),
                    failed,
                    span.get("status", {}).get("message", "") if failed else "",
                )


def _attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OTLP's list of attributes as a dict. OTLP encodes a 64-bit number as text."""
    read = {}
    for pair in pairs:
        ((kind, value),) = pair["value"].items()
        read[pair["key"]] = int(value) if kind == "intValue" else value
    return read


def _of_jaeger(trace: dict[str, Any]) -> Iterable[Span]:
    for span in trace["spans"]:
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        parents = [one["spanID"] for one in span.get("references", []) if one["refType"] == "CHILD_OF"]
        start = span["startTime"] * 1000  # Jaeger's API uses microseconds
        failed = tags.get("otel.status_code") == "ERROR" or tags.get("error") is True
        yield Span(
            span["traceID"],
            span["spanID"],
            parents[0] if parents else "",
            trace["processes"][span["processID"]]["serviceName"],
            span["operationName"],
            str(tags.get("span.kind", "internal")),
            start,
            start + span["duration"] * 1000,
            tags,
            failed,
            str(tags.get("otel.status_description", "")) if failed else "",
        )
