"""The system map as a web page: JupyterLab shows it beside the first notebook, and its launcher opens it.

    python -m labkit.views.map_page PORT        the command that jupyter-server-proxy runs

JupyterLab embeds web pages in a sandbox without JupyterLab's cookies. There, the page requests its data from this
server directly, below a path that only the page knows; in a separate browser tab, it uses JupyterLab's address.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import threading
import time
from collections import deque
from functools import partial
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from labkit.aliases import Aliases
from labkit.views.drawing import map_drawing
from labkit.views.drawing.map_drawing import BOXES
from labkit.views.feed import Feed
from labkit.views.live import PAGE, script
from labkit.views.system_map import SystemMap
from labservices.origins import CheckedHandler
from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.config.web_prefix import allowed_hosts
from labstack.errors import LabError
from labstack.jupyter.web_pages import end_with_parent, launcher_entry

TITLE = "System map"
MAX_MESSAGES = 200
"""Number of messages that are kept for pages. A page that comes later gets the complete state."""

MAX_MESSAGE_BYTES = 10_000
"""Maximum size of a page's message in bytes."""


def entry() -> dict[str, Any]:
    """Describe the launcher entry for jupyter-server-proxy."""
    return launcher_entry(TITLE, PAGE / "map.svg", ["-m", "labkit.views.map_page"])


class MessageQueue:
    """Keeps a view's messages, numbered, until the pages fetch them. It stands in for the widget of a notebook.

    The numbers start at the time of creation, so that a page which knows the numbers of an earlier queue, or none, gets
    the complete state.
    """

    def __init__(self) -> None:
        self._messages: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MAX_MESSAGES)
        self._last = int(1000 * time.time())  # milliseconds: JavaScript's numbers are exact up to 2**53
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Append a message."""
        with self._lock:
            self._last += 1
            self._messages.append((self._last, message))

    def after(self, number: int) -> tuple[int, list[dict[str, Any]] | None]:
        """Return the last number and the messages after `number`; None for them if some are no longer there."""
        with self._lock:
            first = self._messages[0][0] if self._messages else self._last + 1
            if number > self._last or number < first - 1:
                return self._last, None
            return self._last, [message for n, message in self._messages if n > number]


class LiveMap:
    """The map of the lab that runs at the moment.

    Parameters
    ----------
    lab : Lab, optional
        The lab; the default is the one that the environment names.
    """

    def __init__(self, lab: Lab | None = None) -> None:
        self._lab = lab or Lab()
        self._lock = threading.Lock()
        self._map: SystemMap | None = None
        self._map_sources: Any = None
        self._queue = MessageQueue()

    def state(self) -> dict[str, Any]:
        """Return the map's complete state: of the running lab, or of one in which nothing runs."""
        view = self._current()
        return _without_lab() if view is None else view.state()

    def messages(self, after: int, view: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the last message's number, and the messages after `after` for a page."""
        if self._current() is None:
            return 0, [{"kind": "batch", "trouble": ["The lab is not running."], **_without_lab()}]
        last, found = self._queue.after(after)
        if found is None:
            found = [{"kind": "whole", "view": view, **self.state()}]
        return last, found

    def handle_message(self, message: dict[str, Any]) -> None:
        """Handle a message of a page."""
        if (view := self._current()) is not None:
            view.handle_message(message)

    def stop(self) -> None:
        """Stop the view."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._map is not None:
            self._map.stop()
        self._map = self._map_sources = None

    def _current(self) -> SystemMap | None:
        """Return the view of the running lab; None if no lab runs. A restarted lab with other ports has a new one."""
        with self._lock:
            endpoints = None
            with contextlib.suppress(LabError):
                endpoints = self._lab.endpoints
            if endpoints is None or not endpoints.services:
                self._stop()
            elif (sources := _sources(endpoints)) != self._map_sources:
                self._stop()
                self._queue = MessageQueue()  # so that every page gets the complete state
                self._map = SystemMap(Feed(self._lab), Aliases(), page=self._queue)
                self._map_sources = sources
            return self._map


def _without_lab() -> dict[str, Any]:
    """Return the state of a map on which nothing runs."""
    off = {box.id: "○ not running" for box in BOXES if box.component}
    return {"svg": map_drawing.draw({}, off, {}, "The lab is not running."), "off": off, "notes": {}}


def _sources(endpoints: Endpoints) -> tuple[object, ...]:
    """Return the addresses that a feed reads from its start on; further versions and observers may come and go."""
    return endpoints.databases, endpoints.kafka, endpoints.services, endpoints.envoy_admin


def page(state: dict[str, Any], direct: str) -> str:
    """Return the web page.

    Parameters
    ----------
    state : dict
        The map's complete state.
    direct : str
        Address of the data for a page that may not use JupyterLab's.
    """
    style = (PAGE / "views.css").read_text(encoding="utf-8")
    code = script("system_map.js").replace("export default { render };", "")
    data = ", ".join(json.dumps(value).replace("<", "\\u003c") for value in (state, direct))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{TITLE}</title>"
        f"<style>body {{ margin: 8px; font-family: sans-serif }}\n{style}</style><body><div id='view'></div>"
        f"<script>{code}{(PAGE / 'alone.js').read_text(encoding='utf-8')}alone(render, {data});</script></body></html>"
    )


def serve(port: int) -> None:
    """Serve the page on 127.0.0.1, until the process or the JupyterLab that started it exits."""
    live, secret = LiveMap(), secrets.token_urlsafe(16)

    class Handler(CheckedHandler):
        def origin(self) -> str | None:
            # A page in JupyterLab's sandbox has no origin, and knows the secret.
            return None if self._is_secret() else super().origin()

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path.rsplit("/", 1)[-1] != "messages":
                return self._answer(page(live.state(), f"http://127.0.0.1:{port}/{secret}"), "text/html")
            query = parse_qs(url.query)
            after = query.get("after", [""])[0]
            last, found = live.messages(int(after) if after.isdecimal() else 0, query.get("view", [""])[0])
            self._answer(json.dumps({"last": last, "messages": found}), "application/json")

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if not size.isdecimal() or int(size) > MAX_MESSAGE_BYTES:
                return self.send_error(413)
            try:
                message = json.loads(self.rfile.read(int(size)))
            except (ValueError, RecursionError):
                return self.send_error(400)
            if isinstance(message, dict):
                live.handle_message(message)
            self._answer("{}", "application/json")

        def _is_secret(self) -> bool:
            return urlsplit(self.path).path == f"/{secret}/messages"

        def _answer(self, text: str, kind: str) -> None:
            headers = {"Access-Control-Allow-Origin": "*"} if self._is_secret() else {}
            self.answer(text.encode(), f"{kind}; charset=utf-8", headers=headers)

    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, further_hosts=allowed_hosts()))
    threading.Thread(target=end_with_parent, args=(server,), daemon=True).start()
    try:
        server.serve_forever()
    finally:
        live.stop()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
