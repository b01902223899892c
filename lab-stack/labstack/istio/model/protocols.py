"""Istio's protocols of ports, in lower case."""

from __future__ import annotations

HTTP2 = frozenset({"http2", "grpc", "grpc-web"})
HTTP = HTTP2 | {"http", "http_proxy"}
TLS = frozenset({"https", "tls"})
PROTOCOLS = HTTP | TLS | {"tcp", "udp", "mongo", "redis", "mysql"}

UNIX = "unix://"
"""The prefix of an address that is the path of a Unix socket."""
