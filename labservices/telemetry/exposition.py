"""The metrics of a process over HTTP: their format, and a server for processes that have no HTTP interface."""

import threading
from collections.abc import Sequence
from functools import partial
from http.server import ThreadingHTTPServer

from prometheus_client import REGISTRY
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import ALLOWUTF8, CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as encode_openmetrics

from labservices.origins import CheckedHandler


def encode_metrics(accept: str) -> tuple[bytes, str]:
    """Return the metrics and their media type: OpenMetrics, with exemplars, if `accept` names it, else plain text.

    Parameters
    ----------
    accept
        The request's `Accept` header. Its versions and weights do not matter: each format has one version here.
    """
    if "application/openmetrics-text" in (part.partition(";")[0].strip() for part in accept.split(",")):
        # Escaping checks every character of every name, which takes a third of the time. No name here needs it.
        text: bytes = encode_openmetrics(REGISTRY, escaping=ALLOWUTF8)
        return text, CONTENT_TYPE_LATEST
    return generate_latest(REGISTRY), CONTENT_TYPE_PLAIN_0_0_4


class _MetricsHandler(CheckedHandler):
    def do_GET(self) -> None:
        self.answer(*encode_metrics(self.headers.get("Accept", "")))


def serve_metrics(host: str, port: int, further_hosts: Sequence[str] = ()) -> None:
    """Serve the metrics at every path, in a thread, until the process exits.

    Parameters
    ----------
    host, port
        The address to listen on.
    further_hosts
        See `labservices.origins.refusal`.
    """
    server = ThreadingHTTPServer((host, port), partial(_MetricsHandler, further_hosts=further_hosts))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
