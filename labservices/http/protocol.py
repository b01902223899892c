"""uvicorn's HTTP protocol with limits that apply before a request reaches the app."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from labservices.http.limits import MAX_HEADER_BYTES

REQUEST_SECONDS = 10.0
"""Time limit in seconds for the arrival of a complete request."""

IDLE_SECONDS = 3700
"""Seconds after which a connection without a request is closed. Envoy closes its idle connections after one hour
(`idle_timeout` of its HttpProtocolOptions). If the service closed them earlier, Envoy could send a request just then,
and its client would receive a 503. Envoy also opens connections that it does not use at once, so the same limit holds
for a connection without a first request. Such a connection costs a file descriptor."""

TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not arrive in time, or whose headers do not end.

    uvicorn itself has no such limits, and its parser keeps an unfinished header in memory.
    """

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.timeout_keep_alive = IDLE_SECONDS  # after a response; uvicorn's default is 5 s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of an idle connection, which uvicorn itself starts after the first response only."""
        super().connection_made(transport)
        self._start_timer(IDLE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limit."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data to the parser, and count those that belong to a request's head."""
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Start the time limit of a request."""
        self._in_head = True
        self._start_timer(REQUEST_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note the end of a request's head."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stop the time limit of a request."""
        self._stop_timer()
        super().on_message_complete()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
