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
from labkit.views.map_page import KEPT, Outbox
from labstack.backends.base import Endpoints
from labstack.jupyter.doors import DOORS, PREFIX, Pages, answer, pages_of
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
        doors = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(30)
        assert psutil.wait_procs(doors, 10)[1] == []


def test_the_launcher_has_them() -> None:
    """jupyter-server-proxy finds each launcher entry, with a title and a command."""
    found = {entry.name: entry.load()() for entry in entry_points(group="jupyter_serverproxy_servers")}
    assert {f"{PREFIX}{name}" for name in DOORS} <= set(found)
    for name, door in DOORS.items():
        entry = found[f"{PREFIX}{name}"]
        assert entry["launcher_entry"]["title"] == door.title
        assert entry["command"][-2:] == [name, "{port}"]
        assert Path(entry["launcher_entry"]["icon_path"]).read_text().startswith("<svg")


def test_a_door_ends_with_a_jupyterlab_that_is_killed() -> None:
    """The server of an entry stops within seconds after its JupyterLab was killed, and releases its port."""
    port = choose(0, {0})
    door = [sys.executable, "-m", "labstack.jupyter.doors", "envoy", str(port)]
    jupyter = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({door!r})"])
    assert wait_until(lambda: not is_free(port), 20)
    (started,) = psutil.Process(jupyter.pid).children()
    jupyter.kill()
    jupyter.wait()
    assert wait_until(lambda: not started.is_running() or started.status() == psutil.STATUS_ZOMBIE, 10)


def test_a_door_tells_what_is_being_fetched() -> None:
    """While Grafana is being downloaded, its page shows the progress; otherwise it shows how to install it."""
    where = replace(Endpoints(), services={"order": "http://127.0.0.1:1"})
    assert "is being downloaded. 3 of 150 MB" in answer("grafana", where, {"grafana": "3 of 150 MB"})[2]
    assert "lab install grafana" in answer("grafana", where)[2]


def test_prometheus_is_behind_its_door(session: Session, jupyter: httpx.Client) -> None:
    """The entry opens Prometheus' page below the hub's path or reports that it has none; its API works either way."""
    url = session.lab.endpoints.prometheus
    if not url:
        pytest.skip("prometheus is not on this machine: `lab install prometheus`")
    page = jupyter.get(f"{BASE}saga-prometheus/")
    assert page.status_code == 200
    if httpx.get(url, follow_redirects=True).status_code == 200:
        assert page.url.path.startswith(f"{BASE}proxy/")
    else:
        assert "serves no web page" in page.text
        assert url in page.text
    asked = jupyter.get(f"{BASE}proxy/{urlsplit(url).port}/api/v1/query", params={"query": "up"})
    assert asked.json()["status"] == "success"


def test_envoy_is_behind_its_door(session: Session, jupyter: httpx.Client) -> None:
    """The entry opens Envoy's administration page."""
    page = jupyter.get(f"{BASE}saga-envoy/")
    assert page.status_code == 200
    assert "config_dump" in page.text


def test_the_map_is_a_page(session: Session, jupyter: httpx.Client) -> None:
    """The page draws the running lab and gets what happens, from JupyterLab's address or from the server directly."""
    page = jupyter.get(f"{BASE}saga-map/")
    assert 'data-box="Kafka"' in page.text
    direct = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}", page.text)
    assert direct is not None
    jupyter.post(f"{BASE}saga-map/messages", content='{"kind": "here", "view": "a"}').raise_for_status()
    order = session.shop.place_order("ada", "rome", {"rooibos": 1})
    session.look.record(order, "OrderCompleted")

    def told() -> bool:
        messages = jupyter.get(f"{BASE}saga-map/messages", params={"after": 0, "view": "a"}).json()["messages"]
        return any("OrderCompleted" in str(message.get("told")) for message in messages)

    assert wait_until(told, 20)
    answer = httpx.get(f"{direct[0]}/messages", params={"after": 0})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json()["messages"]
    elsewhere = urlsplit(direct[0])._replace(path="/messages").geturl()
    assert "Access-Control-Allow-Origin" not in httpx.get(elsewhere).headers


def test_a_page_that_comes_late_gets_the_whole_map() -> None:
    """Messages that are no longer kept are replaced by the complete state."""
    outbox = Outbox()
    assert outbox.after(0) == (0, [])
    for number in range(KEPT + 1):
        outbox.send({"n": number})
    assert outbox.after(KEPT) == (KEPT + 1, [{"n": KEPT}])
    assert outbox.after(0) == (KEPT + 1, None)
    assert outbox.after(KEPT + 2) == (KEPT + 1, None)


def test_the_apis_find_their_parts_below_a_hubs_path(session: Session, jupyter: httpx.Client) -> None:
    """The list has the four services, and each page loads its scripts and its description below the hub's path."""
    listed = jupyter.get(f"{BASE}saga-api-docs/")
    links = dict(re.findall(r'<a href="\.\./([^"]+)">(\w+)</a>', listed.text))
    assert sorted(links.values()) == ["inventory", "order", "payment", "shipping"]
    for link, service in links.items():
        page = jupyter.get(f"{BASE}{link}")
        assert page.status_code == 200
        below = f"{BASE}{link.removesuffix('docs')}"
        parts = re.findall(r'(?:src=|href=|url: )["\']([^"\']+)["\']', page.text)
        assert parts
        for part in parts:
            assert part.startswith(below), part
            assert jupyter.get(part).status_code == 200
        described = jupyter.get(f"{below}openapi.json").json()
        assert service in described["info"]["title"]


def test_a_door_without_a_room_says_what_to_do() -> None:
    """If the lab is down or has no such page, the entry shows the reason and the next step."""
    status, _, page = answer("prometheus", Endpoints())
    assert status == 200
    assert "lab up" in page
    _, _, page = answer("grafana", Endpoints(services={"order": "http://127.0.0.1:1"}))
    assert "lab install grafana" in page


def test_what_knows_its_path_is_asked_for_all_of_it() -> None:
    """The link to a page that knows its path below the hub contains that whole path."""
    services = {"order": "http://127.0.0.1:1"}
    where = Endpoints(services=services, observers={"jaeger": "http://127.0.0.1:7/user/a/proxy/absolute/7"})
    assert pages_of(where, "jaeger") == {"Jaeger": "proxy/absolute/7/search"}
    assert "serves no web page" in answer("jaeger", where)[2]


def test_a_notebook_links_to_them(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """`look.pages()` has a link to each page, below the hub's path if there is a hub."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", BASE)
    pages = Pages(session.lab.endpoints)
    assert {"Envoy", "order (API)", "shipping (API)"} <= set(pages.urls)
    assert all(url.startswith(f"{BASE}proxy/") for url in pages.urls.values())
    assert "order (API)" in repr(pages)
