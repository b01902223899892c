"""Where spans go: to a collector, as OTLP over HTTP; or to a file, as OTLP's JSON, while no collector listens."""

import base64
import importlib
import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from labservices.settings import Settings

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that a collector may take for one export."""

COMPLAIN_EVERY = 60.0
"""Seconds between two complaints of a collector that is away."""

ENCODER = ("google.protobuf.json_format", "opentelemetry.exporter.otlp.proto.common.trace_encoder")
"""What writes spans as JSON."""

LARGEST_FILE = 20_000_000
"""Bytes; of a larger file the older half goes."""


def make_exporter(settings: Settings) -> SpanExporter | None:
    """Make the exporter that the settings ask for; None where they ask for none."""
    file = SpanFile(Path(settings.spans_file)) if settings.spans_file else None
    if settings.otel_exporter_otlp_endpoint:
        # Imported here and below: what a service does not use must not delay its start by a fifth. What it uses is
        # imported before its first event, which would wait for it.
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        logging.getLogger("opentelemetry").addFilter(_Seldom())
        for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(name).addFilter(_Seldom())
        session = requests.Session()
        session.trust_env = False  # a proxy of the machine's surroundings has no part in this
        url = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
        collector = OTLPSpanExporter(endpoint=url, timeout=PATIENCE, session=session)
        return CollectorOrFile(collector, url, file) if file else collector
    return file


class CollectorOrFile(SpanExporter):
    """Sends spans to a collector while one listens, and writes them to a file otherwise.

    So a collector may start after the services. The lab then sends it the content of the file.

    Parameters
    ----------
    collector
        Sends spans as OTLP over HTTP.
    url
        Where the collector listens.
    file
        Takes the spans that the collector does not take.
    """

    def __init__(self, collector: SpanExporter, url: str, file: "SpanFile") -> None:
        where = urlsplit(url)
        self._address = where.hostname or "", where.port or 80
        self._collector = collector
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send or write spans; they are lost only where neither works."""
        if self._listens() and self._collector.export(spans) is SpanExportResult.SUCCESS:
            return SpanExportResult.SUCCESS
        return self._file.export(spans)

    def shutdown(self) -> None:
        """Close the connections to the collector."""
        self._collector.shutdown()

    def _listens(self) -> bool:
        # The exporter itself would try again and again for seconds.
        try:
            with socket.create_connection(self._address, timeout=PATIENCE):
                return True
        except OSError:
            return False


class SpanFile(SpanExporter):
    """Writes spans to a file: a line for each export, an ``ExportTraceServiceRequest`` in JSON.

    Ids are hexadecimal there and enumerations are numbers, as OTLP's JSON has them. Source: OpenTelemetry protocol
    specification, "JSON Protobuf Encoding".

    Parameters
    ----------
    path
        The file; it is appended to.
    """

    def __init__(self, path: Path) -> None:
        for module in ENCODER:
            importlib.import_module(module)
        self._path = path
        self._complained = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write spans; a disk that is full loses them, and nothing else."""
        line = json.dumps(as_json(spans), separators=(",", ":")) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # In one write, so that a reader never sees two lines mixed.
            with self._path.open("ab", buffering=0) as file:
                file.write(line.encode())
                size = file.tell()
            if size > LARGEST_FILE:
                self._drop_older_half()
        except OSError as error:
            if not self._complained:
                log.warning("spans can't be written: %s", error)
            self._complained = True
            return SpanExportResult.FAILURE
        self._complained = False
        return SpanExportResult.SUCCESS

    def _drop_older_half(self) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        beside = self._path.with_suffix(".partial")
        beside.write_bytes(b"".join(lines[len(lines) // 2 :]))
        os.replace(beside, self._path)


def as_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return spans as OTLP's JSON has them."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for resource in request.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[key] = base64.b64decode(span[key]).hex()
    return request


class _Seldom(logging.Filter):
    """Lets a complaint pass once a minute: a collector that is away is away for every export."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one may pass."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + COMPLAIN_EVERY
        record.exc_info = None
        return True
