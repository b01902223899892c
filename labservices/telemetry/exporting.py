"""Export of spans: as OTLP over HTTP to a collector, or as OTLP JSON to a file while no collector listens."""

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

TIMEOUT = 2.0
"""Time limit of one export to a collector in seconds."""

LOG_INTERVAL = 60.0
"""Seconds between two log messages about an unavailable collector."""

ENCODER = ("google.protobuf.json_format", "opentelemetry.exporter.otlp.proto.common.trace_encoder")
"""The modules that encode spans as JSON."""

MAX_FILE_BYTES = 20_000_000
"""Maximum size of the file in bytes; when it is exceeded, the older half is dropped."""


def make_exporter(settings: Settings) -> SpanExporter | None:
    """Create the exporter that the settings specify, or return None if they specify none."""
    file = SpanFile(Path(settings.spans_file)) if settings.spans_file else None
    if settings.otlp_endpoint:
        # Imported here, not at the top, since these imports make the startup a fifth longer, even if they are not used.
        # `SpanFile` imports its encoder when it is created, so that the first event need not wait for it.
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        logging.getLogger("opentelemetry").addFilter(_RateLimit())
        for name in ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(name).addFilter(_RateLimit())
        session = requests.Session()
        session.trust_env = False  # ignore the proxy settings of the environment
        url = settings.otlp_endpoint.rstrip("/") + "/v1/traces"
        collector = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT, session=session)
        return CollectorOrFile(collector, url, file) if file else collector
    return file


class CollectorOrFile(SpanExporter):
    """Sends spans to a collector while one listens, and writes them to a file otherwise.

    So a collector may start after the services. The lab then sends the content of the file to it.

    Parameters
    ----------
    collector
        The exporter that sends spans as OTLP over HTTP.
    url
        The URL of the collector.
    file
        The exporter for the spans that the collector does not accept.
    """

    def __init__(self, collector: SpanExporter, url: str, file: "SpanFile") -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port or 80
        self._collector = collector
        self._file = file

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector or write them to the file; they are lost only if both fail."""
        if self._listens() and self._collector.export(spans) is SpanExportResult.SUCCESS:
            return SpanExportResult.SUCCESS
        return self._file.export(spans)

    def shutdown(self) -> None:
        """Close the connections to the collector."""
        self._collector.shutdown()

    def _listens(self) -> bool:
        # The exporter itself would retry for seconds.
        try:
            with socket.create_connection(self._address, timeout=TIMEOUT):
                return True
        except OSError:
            return False


class SpanFile(SpanExporter):
    """Writes spans to a file, one line per export: an ``ExportTraceServiceRequest`` in JSON.

    Ids are hexadecimal and enumerations are numbers, as OTLP's JSON requires. Source: OpenTelemetry protocol
    specification, "JSON Protobuf Encoding".

    Parameters
    ----------
    path
        The file to append to.
    """

    def __init__(self, path: Path) -> None:
        for module in ENCODER:
            importlib.import_module(module)
        self._path = path
        self._failure_logged = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write spans; if the disk is full, the spans are lost, but the service continues."""
        line = json.dumps(as_json(spans), separators=(",", ":")) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # In one write, so that a reader never sees interleaved lines.
            with self._path.open("ab", buffering=0) as file:
                file.write(line.encode())
                size = file.tell()
            if size > MAX_FILE_BYTES:
                self._drop_older_half()
        except OSError as error:
            if not self._failure_logged:
                log.warning("spans can't be written to %s, and are lost: %s", self._path, error)
            self._failure_logged = True
            return SpanExportResult.FAILURE
        self._failure_logged = False
        return SpanExportResult.SUCCESS

    def _drop_older_half(self) -> None:
        lines = self._path.read_bytes().splitlines(keepends=True)
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(b"".join(lines[len(lines) // 2 :]))
        os.replace(partial, self._path)


def as_json(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """Return spans in the JSON encoding of OTLP."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for resource in request.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            for span in scope.get("spans", []):
                for key in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[key] = base64.b64decode(span[key]).hex()
    return request


class _RateLimit(logging.Filter):
    """Passes one log message a minute, since every export fails while the collector is unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Report whether to log this record."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + LOG_INTERVAL
        record.exc_info = None
        return True
