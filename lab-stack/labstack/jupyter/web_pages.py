"""Entries of JupyterLab's launcher for the web pages of the lab, on a laptop, on a JupyterHub and on Binder.

JupyterLab reads its launcher entries at startup, and the lab chooses its ports later. So each entry is a small server
that looks up the current address of the page, and redirects the browser to jupyter-server-proxy's path for that port.
All its links are relative, so it works below any prefix. If there is no page, it shows the reason and the next step.

    python -m labstack.jupyter.web_pages NAME PORT        the command that jupyter-server-proxy runs
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
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from labservices.origins import CheckedHandler
from labstack.backends.base import Endpoints
from labstack.clients import http
from labstack.config.web_prefix import allowed_hosts
from labstack.errors import LabError
from labstack.waiting import poll_until

ICONS = Path(__file__).resolve().parent / "icons"
"""Folder with an icon for each launcher entry."""

PREFIX = "saga-"
"""Prefix of the entries' paths."""


BARE = (
    "{} at {} serves no web page. It is starting or stopped, or it was built without its web pages, like Prometheus "
    "unpacked from Debian's package and Jaeger built with Go. Without web pages, its API still works, and "
    "<code>look.metrics.chart</code>, <code>look.metrics.dashboard</code> and <code>look.traces.of</code> draw "
    "its data."
)


@dataclass(frozen=True)
class WebPage:
    """A launcher entry.

    Attributes
    ----------
    title : str
        Title in the launcher.
    path : str
        Path of the page that it opens.
    missing : str
        What to do if a running lab has no such page, as HTML.
    """

    title: str
    path: str
    missing: str


WEB_PAGES: Mapping[str, WebPage] = {
    "prometheus": WebPage("Prometheus", "", "<code>lab install prometheus</code>, then <code>lab up</code>"),
    "grafana": WebPage(
        "Grafana",
        "",
        "<code>lab install grafana</code>, then <code>lab up</code>; or use "
        "<code>look.metrics.dashboard('saga')</code>",
    ),
    "jaeger": WebPage("Jaeger", "search", "<code>lab install jaeger</code>, then <code>lab up</code>"),
    "envoy": WebPage("Envoy's administration", "", "<code>lab start envoy</code>"),
    "api-docs": WebPage("APIs of the services", "docs", "<code>lab up</code>"),
}


def launcher_entry(title: str, icon: Path, arguments: list[str]) -> dict[str, Any]:
    """Return the configuration of an entry for jupyter-server-proxy.

    Parameters
    ----------
    title : str
        Title in the launcher.
    icon : Path
        SVG file.
    arguments : list of str
        Python's arguments for the entry's server; its port is appended.
    """
    return {
        "command": [sys.executable, *arguments, "{port}"],
        "timeout": 30,
        "absolute_url": False,
        "new_browser_tab": True,
        "launcher_entry": {
            "enabled": True,
            "title": title,
            "category": "Notebook",  # the only section in which JupyterLab shows icons of this kind
            "icon_path": str(icon),
        },
    }


def _entry(name: str) -> dict[str, Any]:
    return launcher_entry(WEB_PAGES[name].title, ICONS / f"{name}.svg", ["-m", "labstack.jupyter.web_pages", name])


def prometheus() -> dict[str, Any]:
    """Describe the entry for Prometheus."""
    return _entry("prometheus")


def grafana() -> dict[str, Any]:
    """Describe the entry for Grafana."""
    return _entry("grafana")


def jaeger() -> dict[str, Any]:
    """Describe the entry for Jaeger."""
    return _entry("jaeger")


def envoy() -> dict[str, Any]:
    """Describe the entry for Envoy's administration interface."""
    return _entry("envoy")


def api_docs() -> dict[str, Any]:
    """Describe the entry for the API documentation of the services."""
    return _entry("api-docs")


# -- pages -------------------------------------------------------------------------------------------------------------


def pages_of(where: Endpoints, name: str) -> dict[str, str]:
    """Return the pages behind an entry by title, as paths below JupyterLab's own address.

    Parameters
    ----------
    where : Endpoints
        Endpoints of the lab; empty for a lab that does not run.
    name : str
        Name of the entry.
    """
    urls = {
        "envoy": {"Envoy": where.envoy_admin},
        "api-docs": {**where.services, **where.versions},
    }.get(name, {WEB_PAGES[name].title: where.observers.get(name, "")})
    return {title: path_to(url, WEB_PAGES[name].path) for title, url in urls.items() if url}


def path_to(url: str, page: str) -> str:
    """Return the path of jupyter-server-proxy for a page of a local server, relative to JupyterLab's address.

    A server that knows its public path (Jaeger and Grafana on a hub) receives requests with that whole path.
    """
    parts = urlsplit(url)
    if parts.path.strip("/"):
        return f"proxy/absolute/{parts.port}/{page}"
    return f"proxy/{parts.port}/{page}"


def base_url() -> str:
    """Return the base path of JupyterLab: from the hub, else from the server that started this kernel."""
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
        Endpoints of the lab.
    """

    def __init__(self, where: Endpoints) -> None:
        self.urls: dict[str, str] = {}
        """Path by title."""
        base = base_url()
        for name in WEB_PAGES:
            for title, path in pages_of(where, name).items():
                self.urls[f"{title} (API)" if name == "api-docs" else title] = base + path

    def __repr__(self) -> str:
        return f"Web pages of the lab: {', '.join(self.urls) or 'none, the lab is not running'}."

    def _repr_html_(self) -> str:
        links = [f'<a href="{html.escape(url)}" target="_blank">{html.escape(t)}</a>' for t, url in self.urls.items()]
        return " · ".join(links) or html.escape(repr(self))


# -- the server behind an entry ----------------------------------------------------------------------------------------


def answer(
    name: str, where: Endpoints, downloading: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Return the status, headers and page of an entry's response.

    Parameters
    ----------
    name : str
        Name of the entry.
    where : Endpoints
        Endpoints of the lab.
    downloading : mapping of str to str, optional
        Progress of each running download, by name.
    """
    pages = pages_of(where, name)
    title = WEB_PAGES[name].title
    if len(pages) == 1:
        (path,) = pages.values()
        if name in where.observers and not _shows(f"{where.observers[name]}/{WEB_PAGES[name].path}"):
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
        return 200, {}, _page(title, "<p>The lab is not running. Run <code>lab up</code>, or a notebook.</p>")
    if downloading and name in downloading:
        return 200, {}, _page(title, f"<p>{title} is being downloaded. {html.escape(downloading[name])}</p>")
    return 200, {}, _page(title, f"<p>This lab has no {title}. Run {WEB_PAGES[name].missing}.</p>")


def _shows(url: str) -> bool:
    """Report whether the server has a page at this URL."""
    try:
        return http.get(url, timeout=3, follow_redirects=True).status_code < 400
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
    """Serve one entry on 127.0.0.1, until the process or the JupyterLab that started it exits."""
    from labstack.lab import Lab, access_of  # JupyterLab imports this module at startup, and needs no whole lab
    from labstack.lifecycle import obtaining

    class Handler(CheckedHandler):
        def do_GET(self) -> None:
            where, downloading = Endpoints(), {}
            with contextlib.suppress(LabError):
                access = access_of(Lab())
                backend = access.backend()
                where, downloading = backend.endpoints(), obtaining.absent(access.paths, backend.state).downloading
            status, headers, page = answer(name, where, downloading)
            self.answer(page.encode(), "text/html; charset=utf-8", status, headers)

    server = ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, further_hosts=allowed_hosts()))
    threading.Thread(target=end_with_parent, args=(server,), daemon=True).start()
    server.serve_forever()


def end_with_parent(server: ThreadingHTTPServer) -> None:
    """Shut the server down when its parent process changes: a killed JupyterLab can't stop its servers."""
    parent = os.getppid()
    poll_until(lambda: os.getppid() != parent, math.inf, interval=1)
    server.shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
