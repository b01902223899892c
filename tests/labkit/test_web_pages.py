"""JupyterLab's launcher entries for the lab's web pages, in a real JupyterLab below a hub's path."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from labkit import Session
from labkit.views.map_page import MAX_MESSAGES, LiveMap, MessageQueue
from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.clients import http
from labstack.config.paths import LabPaths
from labstack.jupyter.web_pages import PREFIX, WEB_PAGES, Pages, answer, pages_of
from labstack.ports.free import choose, is_free
from labstack.waiting import wait_until

BASE = "/user/ada/"


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A JupyterLab below /user/ada/, as a hub starts it."""
    home = tmp_path_factory.mktemp("jupyter")
    token = secrets.token_hex(16)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (home / "log").open("wb")
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("jupyter")), "lab", "--no-browser", "--ServerApp.ip=127.0.0.1"]
        + [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={BASE}"]
        + [f"--ServerApp.root_dir={home}"]
        + (["--allow-root"] if os.geteuid() == 0 else []),
        env={**os.environ, "JUPYTER_TOKEN": token, "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    log.close()
    address = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(
            base_url=address, headers={"Authorization": f"token {token}"}, follow_redirects=True, timeout=30
        ) as client:

            def serves() -> bool:
                try:
                    return client.get(f"{BASE}api").status_code == 200
                except httpx.HTTPError:
                    return False

            assert wait_until(serves, 60), (home / "log").read_text()[-2000:]
            yield client
    finally:
        children = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(30)
        assert psutil.wait_procs(children, 10)[1] == []


def test_the_launcher_has_every_entry() -> None:
    """jupyter-server-proxy finds each launcher entry, with a title and a command."""
    found = {entry.name: entry.load()() for entry in entry_points(group="jupyter_serverproxy_servers")}
    assert {f"{PREFIX}{name}" for name in WEB_PAGES} <= set(found)
    for name, page in WEB_PAGES.items():
        entry = found[f"{PREFIX}{name}"]
        assert entry["launcher_entry"]["title"] == page.title
        assert entry["command"][-2:] == [name, "{port}"]
        assert Path(entry["launcher_entry"]["icon_path"]).read_text().startswith("<svg")


def test_an_entry_server_stops_after_its_jupyterlab_was_killed() -> None:
    """The server of an entry stops within seconds after its JupyterLab was killed, and releases its port."""
    port = choose(0, {0})
    command = [sys.executable, "-m", "labstack.jupyter.web_pages", "envoy", str(port)]
    jupyter = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"])
    assert wait_until(lambda: not is_free(port), 20)
    (started,) = psutil.Process(jupyter.pid).children()
    jupyter.kill()
    jupyter.wait()
    assert wait_until(lambda: not started.is_running() or started.status() == psutil.STATUS_ZOMBIE, 10)


def test_an_entry_shows_the_progress_of_a_download() -> None:
    """While Grafana is being downloaded, its page shows the progress; otherwise it shows how to install it."""
    endpoints = replace(Endpoints(), services={"order": "http://127.0.0.1:1"})
    assert "is being downloaded. 3 of 150 MB" in answer("grafana", endpoints, {"grafana": "3 of 150 MB"})[2]
    assert "lab install grafana" in answer("grafana", endpoints)[2]


def test_the_prometheus_entry_opens_its_page(session: Session, jupyter: httpx.Client) -> None:
    """The entry opens Prometheus' page below the hub's path or reports that it has none; its API works either way."""
    url = session.lab.endpoints.prometheus
    if not url:
        pytest.skip("prometheus is not on this machine: `lab install prometheus`")
    page = jupyter.get(f"{BASE}saga-prometheus/")
    assert page.status_code == 200
    if http.get(url, follow_redirects=True).status_code == 200:
        assert page.url.path.startswith(f"{BASE}proxy/")
    else:
        assert "serves no web page" in page.text
        assert url in page.text
    response = jupyter.get(f"{BASE}proxy/{urlsplit(url).port}/api/v1/query", params={"query": "up"})
    assert response.json()["status"] == "success"


def test_the_envoy_entry_opens_its_administration_page(session: Session, jupyter: httpx.Client) -> None:
    """The entry opens Envoy's administration page."""
    page = jupyter.get(f"{BASE}saga-envoy/")
    assert page.status_code == 200
    assert "config_dump" in page.text


def test_the_map_page_shows_the_running_lab(session: Session, jupyter: httpx.Client) -> None:
    """The page draws the running lab and receives its events, from JupyterLab's address or directly from the server."""
    page = jupyter.get(f"{BASE}saga-map/")
    assert 'data-box=\\"Kafka\\"' in page.text
    direct = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}", page.text)
    assert direct is not None
    jupyter.post(f"{BASE}saga-map/messages", content='{"kind": "here", "view": "a"}').raise_for_status()
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    session.look.kafka.record(order, "OrderCompleted")

    def received() -> bool:
        messages = jupyter.get(f"{BASE}saga-map/messages", params={"after": 0, "view": "a"}).json()["messages"]
        return any("OrderCompleted" in str(message.get("told")) for message in messages)

    assert wait_until(received, 20)
    answer = http.get(f"{direct[0]}/messages", params={"after": 0})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json()["messages"]
    elsewhere = urlsplit(direct[0])._replace(path="/messages").geturl()
    assert "Access-Control-Allow-Origin" not in http.get(elsewhere).headers


@pytest.mark.parametrize("program", [("labkit.views.map_page",), ("labstack.jupyter.web_pages", "envoy")])
@pytest.mark.parametrize("on_hub", [False, True])
def test_page_servers_serve_only_their_own_pages(program: tuple[str, ...], on_hub: bool, tmp_path: Path) -> None:
    """A foreign host or page is refused; behind a hub, the hub's name and its pages are accepted."""
    port = choose(0, {0})
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "JUPYTERHUB_SERVICE_PREFIX": BASE if on_hub else ""}
    server = subprocess.Popen([sys.executable, "-m", *program, str(port)], env=environment)
    try:
        assert wait_until(lambda: not is_free(port), 30)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            assert client.get("/").status_code == 200
            hub = {"Host": "hub.example"}
            assert client.get("/", headers=hub).status_code == (200 if on_hub else 403)
            foreign = client.post("/messages", json={}, headers={"Origin": "https://evil.example"})
            assert (foreign.status_code, "evil.example" in foreign.text) == (403, True)
            if program[0] == "labkit.views.map_page":
                assert client.post("/messages", json={}, headers={"Origin": "null"}).status_code == 403
                hubs = client.post("/messages", json={}, headers={**hub, "Origin": "https://hub.example"})
                assert hubs.status_code == (200 if on_hub else 403)
                direct = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}", client.get("/").text)
                assert direct is not None
                assert client.post(f"{direct[0]}/messages", json={}, headers={"Origin": "null"}).status_code == 200
    finally:
        server.terminate()
        server.wait(20)


def test_a_late_page_gets_the_complete_state() -> None:
    """Messages that are no longer kept are replaced by the complete state."""
    queue = MessageQueue()
    start, found = queue.after(0)
    assert (start > 0, found) == (True, None)
    assert queue.after(start) == (start, [])
    for number in range(MAX_MESSAGES + 1):
        queue.send({"n": number})
    last = start + MAX_MESSAGES + 1
    assert queue.after(last - 1) == (last, [{"n": MAX_MESSAGES}])
    assert queue.after(start) == (last, None)
    assert queue.after(last + 1) == (last, None)


def test_map_page_reports_that_no_lab_runs(tmp_path: Path) -> None:
    """Without a running lab, each component of the map is off, and the page reports that the lab is not running."""
    live = LiveMap(Lab(paths=LabPaths(tmp_path / "state", tmp_path / "cache")))
    assert set(live.state()["off"].values()) == {"○ not running"}
    ((message,),) = [live.messages(0, "a")[1]]
    assert message["trouble"] == ["The lab is not running."]
    assert message["off"]["Kafka"] == "○ not running"


def test_api_pages_load_their_files_below_a_hubs_path(session: Session, jupyter: httpx.Client) -> None:
    """The list has the four services, and each page loads its scripts and its description below the hub's path."""
    listed = jupyter.get(f"{BASE}saga-api-docs/")
    links = dict(re.findall(r'<a href="\.\./([^"]+)">(\w+)</a>', listed.text))
    assert sorted(links.values()) == ["inventory", "order", "payment", "shipping"]
    for link, service in links.items():
        page = jupyter.get(f"{BASE}{link}")
        assert page.status_code == 200
        below = f"{BASE}{link.removesuffix('docs')}"
        targets = re.findall(r'(?:src=|href=|url: )["\']([^"\']+)["\']', page.text)
        assert targets
        for target in targets:
            assert target.startswith(below), target
            assert jupyter.get(target).status_code == 200
        description = jupyter.get(f"{below}openapi.json").json()
        assert service in description["info"]["title"]


def test_missing_page_shows_the_next_step() -> None:
    """If the lab is down or has no such page, the entry shows the reason and the next step."""
    status, _, page = answer("prometheus", Endpoints())
    assert status == 200
    assert "lab up" in page
    _, _, page = answer("grafana", Endpoints(services={"order": "http://127.0.0.1:1"}))
    assert "lab install grafana" in page


def test_a_link_contains_the_whole_path_below_the_hub() -> None:
    """The link to a page that knows its path below the hub contains that whole path."""
    services = {"order": "http://127.0.0.1:1"}
    endpoints = Endpoints(services=services, observers={"jaeger": "http://127.0.0.1:7/user/a/proxy/absolute/7"})
    assert pages_of(endpoints, "jaeger") == {"Jaeger": "proxy/absolute/7/search"}
    assert "serves no web page" in answer("jaeger", endpoints)[2]


def test_a_notebook_links_to_every_page(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """`look.pages()` has a link to each page, below the hub's path if there is a hub."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", BASE)
    pages = Pages(session.lab.endpoints)
    assert {"Envoy", "order (API)", "shipping (API)"} <= set(pages.urls)
    assert all(url.startswith(f"{BASE}proxy/") for url in pages.urls.values())
    assert "order (API)" in repr(pages)
