"""The rules by which a web server of this machine accepts requests: the requested host, and the page that sends them.

Any web page can send requests to the ports of its visitor's machine. The browser adds two headers that a page can't
change. `Host` is the name in the address: a page that binds its own name to 127.0.0.1 (DNS rebinding) still sends that
name. `Origin` names the site of the page; the browser adds it to every request that may change something. So only its
own pages, other pages of this machine, and programs other than browsers can change anything on a server that checks
both.

Sources: RFC 6454 (Origin), RFC 9110 section 7.2 (Host).
"""

import ipaddress
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""The methods that change nothing (RFC 9110 section 9.2.1); a browser may send them without an `Origin`."""

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.IGNORECASE | re.ASCII)


def refusal(method: str, host: str | None, origin: str | None, further_hosts: Collection[str] = ()) -> str | None:
    """Return why a server refuses a request, or None if it accepts the request.

    Parameters
    ----------
    method
        The request's method.
    host
        Its `Host` header. A browser always sends one.
    origin
        Its `Origin` header. Programs other than browsers send none.
    further_hosts
        Host names of the server and of its pages besides those of this machine. `*` accepts every host; use it for a
        server that only a hub's proxy reaches. A page may then change something only if its host is the requested one,
        another name of this list, or this machine.
    """
    if host is not None and not is_own_host(host, further_hosts):
        return f"{host[:80]!r} is not a name of this server; use 127.0.0.1, or allow the name by LAB_ALLOWED_HOSTS"
    if method not in SAFE_METHODS and origin is not None and not _is_own_origin(origin, host, further_hosts):
        return f"the page {origin[:80]!r} may not change anything here; only pages of this server and machine may"
    return None


def parse_hosts(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of host names."""
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def is_own_host(authority: str, further_hosts: Collection[str] = ()) -> bool:
    """Report whether a `Host` header names this server.

    An address and a name without a dot (`localhost`, a container's name) are accepted, since no web page can bind them.
    """
    name = _name(authority)
    if name is None:
        return False
    return "*" in further_hosts or name in further_hosts or "." not in name.rstrip(".") or _address(name) is not None


def own_host_pattern(further_hosts: Collection[str] = ()) -> str:
    """Return a regular expression that matches the `Host` headers of `is_own_host`, for servers such as Envoy."""
    if "*" in further_hosts:
        return ".*"
    names = [r"[0-9.]+", r"\[[0-9A-Fa-f:.]+\]", r"[\w-]+", *map(re.escape, further_hosts)]
    return f"({'|'.join(names)})(:[0-9]+)?"


class CheckedHandler(BaseHTTPRequestHandler):
    """A handler for the servers of `http.server` that checks each request; a subclass defines ``do_GET``.

    Parameters
    ----------
    further_hosts
        See `refusal`.
    """

    timeout = 10
    """Seconds that a client may take to send a part of its request."""

    def __init__(self, *arguments: Any, further_hosts: Collection[str] = ()) -> None:
        self._further_hosts = further_hosts
        super().__init__(*arguments)

    def handle(self) -> None:
        """Handle the requests of a connection; a client may close it before it has read the response."""
        with suppress(ConnectionError):
            super().handle()

    def parse_request(self) -> bool:
        """Parse a request, and respond with 403 if it is refused."""
        if not super().parse_request():
            return False
        reason = refusal(self.command, self.headers.get("Host"), self.origin(), self._further_hosts)
        if reason:
            self.send_error(403, explain=reason)
        return reason is None

    def origin(self) -> str | None:
        """Return the `Origin` header, which is None for a program.

        A subclass may return None for a page that may do everything.
        """
        return self.headers.get("Origin")

    def do_HEAD(self) -> None:
        """Respond as to a GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Respond to a request that changes nothing."""
        raise NotImplementedError

    def answer(
        self, body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Send a response."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", media_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def _is_own_origin(origin: str, host: str | None, further_hosts: Collection[str]) -> bool:
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    if page.scheme not in ("http", "https") or (name := _name(page.netloc)) is None:
        return False
    address = _address(name)
    is_here = name == "localhost" or (address is not None and address.is_loopback)
    return is_here or page.netloc == host or name in further_hosts


def _name(authority: str) -> str | None:
    """Return the host of an authority (host and port) in lower case, without brackets; None if it is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    return match[1].strip("[]").lower() if match else None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
