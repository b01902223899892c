"""Limits of requests: their origin, their size and their time of arrival."""

import asyncio
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labservices.http.problems import HttpProblem
from labservices.origins import refusal

MAX_HEADER_BYTES = 64 * 1024
"""Largest total size of a request's path and headers."""

MAX_BODY_BYTES = 1_000_000
"""Largest size of a request's body. The largest valid order has about 10 KB."""

BODY_SECONDS = 3.0
"""Time limit in seconds for the arrival of a request's body."""


FORWARDED = b"x-forwarded-proto"
"""A header that Envoy adds to every request that it forwards."""


class OriginCheck:
    """Refuses requests that name a foreign host, and changes that a foreign web page asks for.

    The gateway serves every host that its Gateway document lists. So the host of a request that it forwards
    is not checked, except for the management routes, which no customer needs.
    """

    def __init__(self, app: ASGIApp, further_hosts: Collection[str]) -> None:
        self._app = app
        self._further_hosts = further_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] == "http":
            host, origin = (_header(scope, name) for name in (b"host", b"origin"))
            forwarded = _header(scope, FORWARDED) is not None and not scope["path"].startswith("/manage/")
            hosts = (*self._further_hosts, "*") if forwarded else self._further_hosts
            if reason := refusal(scope["method"], host, origin, hosts):
                await HttpProblem(403, "foreign-origin", reason).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SizeLimits:
    """Refuses requests that are too large, and bodies that arrive too slowly.

    uvicorn reads and drops the rest of a refused body, so that the client can read the response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = len(scope["raw_path"]) + len(scope["query_string"])
        head += sum(len(name) + len(value) for name, value in scope["headers"])
        if head > MAX_HEADER_BYTES:
            detail = f"the request's path and headers are larger than {MAX_HEADER_BYTES} bytes"
            await HttpProblem(431, "headers-too-large", detail).response()(scope, receive, send)
            return
        length = _header(scope, b"content-length")
        if length is not None and length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
            await HttpProblem(413, "content-too-large", TOO_LARGE).response()(scope, receive, send)
            return
        await self._app(scope, _Body(receive).receive, send)


TOO_LARGE = f"the request's body is larger than {MAX_BODY_BYTES} bytes"


class _Body:
    """A request's body. `receive` raises an HTTPException once the body is too large or too slow.

    FastAPI passes on an HTTPException and hides any other error of a body.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._complete = False
        self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the request's body did not arrive within {BODY_SECONDS:g} s") from None
        self._size += len(message.get("body", b""))
        if self._size > MAX_BODY_BYTES:
            raise HTTPException(413, TOO_LARGE)
        self._complete = not message.get("more_body", False)
        return message


def _header(scope: Scope, name: bytes) -> str | None:
    values = [value for key, value in scope["headers"] if key == name]
    # Several headers of one name are joined, as RFC 9110 defines, and then match no host and no origin.
    return b", ".join(values).decode("latin-1") if values else None
