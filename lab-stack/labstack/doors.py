"""Doors to the web pages of the lab, from JupyterLab's launcher: on a laptop, on a JupyterHub and on Binder alike.

JupyterLab knows its launcher's entries when it starts, and the lab chooses its ports later. So each entry is a door: a
small server that looks where the page is now, and sends the browser on, to jupyter-server-proxy's path for that port.
All it says is relative, so it works below any prefix. Where there is nothing to see, it says why, and what to do.

    python -m labstack.doors NAME PORT        what jupyter-server-proxy starts
"""

from __future__ import annotations

import contextlib
import html
import math
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from labstack.backend import Endpoints
from labstack.errors import LabError
from labstack.waiting import wait_until

ICONS = Path(__file__).resolve().parent / "icons"
"""An icon for each entry of the launcher."""

PREFIX = "saga-"
"""What the entries' paths begin with."""


BARE = (
    "{} runs at {}, and shows no page: it is starting or stopped, or it was built without its pages, as Debian's "
    "Prometheus is when it is only unpacked, and Jaeger when Go builds it. Its API answers all the same, and "
    "<code>look.chart</code>, <code>look.dashboard</code> and <code>look.trace</code> draw what it has."
)


@dataclass(frozen=True)
class Door:
    """An entry of the launcher.

    Attributes
    ----------
    title : str
        As the launcher shows it.
    path : str
        Of the page that it opens.
    missing : str
        What to do where a running lab has no such page.
    """

    title: str
    path: str
    missing: str


DOORS: Mapping[str, Door] = {
    "prometheus": Door("Prometheus", "", "<code>lab install prometheus</code>, then <code>lab up</code>"),
    "grafana": Door(
        "Grafana",
        "",
        "<code>lab install grafana</code>, then <code>lab up</code>; or <code>look.dashboard('saga')</code>",
    ),
    "jaeger": Door("Jaeger", "search", "<code>lab install jaeger</code>, then <code>lab up</code>"),
    "envoy": Door("Envoy's administration", "", "<code>lab start envoy</code>"),
    "api-docs": Door("APIs of the services", "docs", "<code>lab up</code>"),
}


def _entry(name: str) -> dict[str, Any]:
    """Return what jupyter-server-proxy has to know of a door."""
    return {
        "command": [sys.executable, "-m", "labstack.doors", name, "{port}"],
        "timeout": 30,
        "absolute_url": False,
        "new_browser_tab": True,
        "launcher_entry": {
            "enabled": True,
            "title": DOORS[name].title,
            "category": "Notebook",  # JupyterLab shows icons of this kind in no other section
            "icon_path": str(ICONS / f"{name}.svg"),
        },
    }


def prometheus() -> dict[str, Any]:
    """Describe the door to Prometheus."""
    return _entry("prometheus")


def grafana() -> dict[str, Any]:
    """Describe the door to Grafana."""
    return _entry("grafana")


def jaeger() -> dict[str, Any]:
    """Describe the door to Jaeger."""
    return _entry("jaeger")


def envoy() -> dict[str, Any]:
    """Describe the door to Envoy's administration."""
    return _entry("envoy")


def api_docs() -> dict[str, Any]:
    """Describe the door to the services' APIs."""
    return _entry("api-docs")


# -- where they lead ---------------------------------------------------------------------------------------------------


def pages_of(where: Endpoints, name: str) -> dict[str, str]:
    """Return the pages behind a door by their titles, as paths below JupyterLab's own address.

    Parameters
    ----------
    where : Endpoints
        The lab's; of one that doesn't run they are empty.
    name : str
        Of the door.
    """
    urls = {
        "envoy": {"Envoy": where.envoy_admin},
        "api-docs": {**where.services, **where.versions},
    }.get(name, {DOORS[name].title: where.observers.get(name, "")})
    return {title: path_to(url, DOORS[name].path) for title, url in urls.items() if url}


def path_to(url: str, page: str) -> str:
    """Return where jupyter-server-proxy has a page of a server on this machine, relative to JupyterLab's address.

    A server that knows under which path it is seen (Jaeger and Grafana on a hub) is asked for that whole path.
    """
    parts = urlsplit(url)
    if parts.path.strip("/"):
        return f"proxy/absolute/{parts.port}/{page}"
    return f"proxy/{parts.port}/{page}"


def base_url() -> str:
    """Return the path below which JupyterLab is: a hub tells it; else the server whose kernel this is."""
    if prefix := os.environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        return prefix
    from jupyter_server.serverapp import list_running_servers

    ours = [server for server in list_running_servers() if server.get("pid") == os.getppid()]
    return str(ours[0]["base_url"]) if ours else "/"


class Pages:
    """Links to all web pages of a lab, for a notebook.

    Parameters
    ----------
    where : Endpoints
        The lab's.
    """

    def __init__(self, where: Endpoints) -> None:
        self.urls: dict[str, str] = {}
        """Path by title."""
        base = base_url()
        for name in DOORS:
            for title, path in pages_of(where, name).items():
                self.urls[f"{title} (API)" if name == "api-docs" else title] = base + path

    def __repr__(self) -> str:
        return f"Web pages of the lab: {', '.join(self.urls) or 'none, it does not run'}."

    def _repr_html_(self) -> str:
        links = [f'<a href="{html.escape(url)}" target="_blank">{html.escape(t)}</a>' for t, url in self.urls.items()]
        return " · ".join(links) or html.escape(repr(self))


# -- the server behind an entry ----------------------------------------------------------------------------------------


def answer(name: str, where: Endpoints, coming: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    """Return status, headers and page that a door answers with.

    Parameters
    ----------
    name : str
        Of the door.
    where : Endpoints
        The lab's.
    coming : mapping of str to str, optional
        What is being fetched, and how far that is.
    """
    pages = pages_of(where, name)
    title = DOORS[name].title
    if len(pages) == 1:
        (path,) = pages.values()
        if name in where.observers and not _shows(f"{where.observers[name]}/{DOORS[name].path}"):
            return (
                200,
                {},
                _page(title, f"<p>{BARE.format(html.escape(title), html.escape(where.observers[name]))}</p>"),
            )
        return 302, {"Location": f"../{path}"}, ""
    if pages:
        items = "".join(
            f'<li><a href="../{html.escape(path)}">{html.escape(of)}</a></li>' for of, path in pages.items()
        )
        return 200, {}, _page(title, f"<ul>{items}</ul>")
    if not where.services:
        return 200, {}, _page(title, "<p>The lab does not run: <code>lab up</code> in a terminal, or a notebook.</p>")
    if coming and name in coming:
        return 200, {}, _page(title, f"<p>{title} is being fetched. {html.escape(coming[name])}</p>")
    return 200, {}, _page(title, f"<p>This lab has no {title}: {DOORS[name].missing}.</p>")


def _shows(url: str) -> bool:
    """Whether there is a page."""
    try:
        return httpx.get(url, timeout=3, follow_redirects=True, trust_env=False).status_code < 400
    except httpx.HTTPError:
        return False


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta http-equiv='refresh' content='5'>"
        f"<title>{html.escape(title)}</title>"
        "<body style='font-family:sans-serif;margin:3em;color-scheme:light dark'>"
        f"<h1>{html.escape(title)}</h1>{body}</body></html>"
    )


def serve(name: str, port: int) -> None:
    """Serve one door on 127.0.0.1, until the process or the JupyterLab that has started it ends."""
    from labstack import Lab, obtaining  # JupyterLab reads this module at its start, and has no use for the whole lab

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where, coming = Endpoints(), {}
            with contextlib.suppress(LabError):
                lab = Lab()
                where, coming = lab.endpoints, obtaining.absent(lab).coming
            status, headers, page = answer(name, where, coming)
            body = page.encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    server.serve_forever()


def _end_with_parent(server: ThreadingHTTPServer) -> None:
    """A JupyterLab that is killed can't end its doors; they notice that another process is their parent then."""
    parent = os.getppid()
    wait_until(lambda: os.getppid() != parent, math.inf, interval=1)
    server.shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
