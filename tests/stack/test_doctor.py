"""`lab doctor`: every finding, with and without a problem; and the stack's ports, templates, lists and versions."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from labstack import Lab
from labstack.backends.access import LabAccess
from labstack.backends.processes.java import jars
from labstack.backends.processes.process import MARKER
from labstack.clients.relay import connector_config
from labstack.config import paths
from labstack.config.paths import CONFIG, DATASETS
from labstack.config.services import ServiceEntry, load_services, load_topics
from labstack.config.templates import fill
from labstack.config.versions import VERSIONS
from labstack.errors import LabError, PortTaken
from labstack.lab import access_of
from labstack.lifecycle import doctor
from labstack.lifecycle.doctor import examine
from labstack.ports import free as ports
from labstack.state import StateStore
from tests.stack.labs import ROOT, LabHarness

CHECKS = [
    "mode",
    "Python",
    "Java",
    "PostgreSQL",
    "gateway",
    "observability",
    "memory",
    "cache",
    "leftovers",
    "disk",
    "ports",
    "datasets",
]


def finding(lab: Lab, check: str) -> doctor.Finding:
    return next(found for found in examine(access_of(lab)) if found.check == check)


def test_healthy_machine_has_no_problems(shared: LabHarness) -> None:
    """On a machine that runs the lab, no check is a problem, each warning has advice, and the exit status is 0."""
    findings = examine(access_of(shared.lab))
    assert [found.check for found in findings] == CHECKS
    assert [found for found in findings if found.verdict == "problem"] == []
    assert all(found.seen for found in findings)
    assert all(found.advice for found in findings if found.verdict != "ok")
    assert finding(shared.lab, "leftovers").verdict == "ok"
    shown = json.loads(shared.run_checked("doctor", "--json"))
    assert [found["check"] for found in shown] == CHECKS
    assert "PostgreSQL" in shared.run_checked("doctor")


def test_problem_sets_exit_status_1(harness: LabHarness, tmp_path: Path) -> None:
    """`lab doctor` exits with status 1 if the lab can't work, for example because its folder can't be created."""
    (tmp_path / "file").write_text("")
    done = harness.run("doctor", XDG_STATE_HOME=str(tmp_path / "file"))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "problem" in done.stdout


def test_low_memory_is_a_warning(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory is a warning that says how much the lab needs; 1.3 GB suffice."""
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(500_000_000))
    found = finding(harness.lab, "memory")
    assert (found.verdict, found.seen) == ("warning", "0.5 GB available")
    assert "1 GB" in found.advice
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1_300_000_000))
    assert finding(harness.lab, "memory").verdict == "ok"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(1_299_999_999))
    assert finding(harness.lab, "memory").verdict == "warning"


def test_low_disk_space_is_a_warning(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 1.5 GB of disk space is a warning that names the folder and the environment variable to move it."""
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1_499_999_999))
    found = finding(harness.lab, "disk")
    assert (found.verdict, found.seen) == ("warning", f"1.5 GB free below {harness.paths.state}")
    assert "free 1.5 GB" in found.advice
    assert "XDG_STATE_HOME" in found.advice
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1_500_000_000))
    assert finding(harness.lab, "disk").verdict == "ok"


def test_incomplete_cache_is_a_warning(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is empty or lacks jars is a warning with the command that downloads them."""
    monkeypatch.setattr(jars, "damaged", lambda cache: list(jars.JARS))
    assert "lab prefetch" in finding(harness.lab, "cache").advice
    monkeypatch.setattr(jars, "damaged", lambda cache: ["re2j-1.8.jar"])
    assert "re2j-1.8.jar" in finding(harness.lab, "cache").seen


def test_taken_port_is_a_warning_with_its_process(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taken usual port is a warning that names the process that holds it."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        entry = ServiceEntry("order", port, 0, ())
        found = next(f for f in doctor.examine(LabAccess(harness.paths, (entry,))) if f.check == "ports")
        assert found.verdict == "warning"
        assert f"{port} (order) is taken by" in found.seen
        assert f"pid {os.getpid()}" in found.seen


def test_invalid_data_is_a_problem_with_file_and_line(
    harness: LabHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that can't be loaded is a problem that names the file and the line."""
    shutil.copytree(DATASETS, tmp_path / "datasets")
    with (tmp_path / "datasets" / "products.csv").open("a", encoding="utf-8") as file:
        file.write("bad sku,Bad,minus one,EUR,1\n")
    monkeypatch.setattr(paths, "DATASETS", tmp_path / "datasets")
    found = finding(harness.lab, "datasets")
    assert (found.verdict, "products.csv" in found.seen) == ("problem", True)
    assert "git checkout" in found.advice


def test_stray_process_is_found_and_stopped(harness: LabHarness) -> None:
    """The doctor finds an unknown process with the lab's mark, and `lab down` stops it."""
    assert finding(harness.lab, "leftovers").verdict == "ok"
    harness.lab.down()
    harness.paths.make()
    lab_id = StateStore(harness.paths).lab_id
    environment = {**os.environ, MARKER: f"{lab_id}/order"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as stray:
        found = finding(harness.lab, "leftovers")
        assert (found.verdict, f"pid {stray.pid}" in found.seen) == ("warning", True)
        harness.lab.down()
        assert stray.wait(5) == -9


# --- ports, templates, lists, versions


def test_chosen_ports_are_free_and_unique() -> None:
    """A component gets its usual port or one outside the range of outgoing connections, and no port is used twice."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        assert not ports.is_free(taken)
        other = ports.choose(taken, set())
        assert other in ports.FALLBACK_RANGE
    assert ports.is_free(other)
    assert ports.choose(other, set()) == other
    assert ports.choose(other, {other}) != other
    with pytest.raises(PortTaken, match="No free port"):
        ports.choose(other, {other, *ports.FALLBACK_RANGE})


def test_templates_fill_only_the_labs_variables(tmp_path: Path) -> None:
    """The lab's variables are filled in, a component's own stay, and one without a value is an error that names it."""
    template = tmp_path / "a.conf"
    template.write_text("# ${COMMENT}\nport=${PORT}\nroute=${routedByValue}\n")
    assert fill(template, {"PORT": 1}) == "# ${COMMENT}\nport=1\nroute=${routedByValue}\n"
    with pytest.raises(LabError, match=r"\$\{PORT\}"):
        fill(template, {"OTHER": 1})


def test_versions_file_matches_the_packages() -> None:
    """The versions file matches the wheels in pyproject.toml and in the lock file, and the versions of the jars."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(line.split(";")[0].strip().split("==") for line in project["dependencies"] if "[" not in line)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for wheel, version in VERSIONS["wheels"].items():
        assert pins[wheel] == version
        assert f"\n{wheel}=={version} " in lock
    maven = VERSIONS["maven"]
    assert f"org.apache.kafka:kafka_2.13:{maven['kafka']}" in jars.JARS
    assert f"org.apache.kafka:connect-runtime:{maven['kafka']}" in jars.JARS
    assert f"io.debezium:debezium-connector-postgres:{maven['debezium']}" in jars.JARS
    assert all(len(digest) == 64 for digest in jars.JARS.values())


def test_new_service_needs_only_an_entry_in_the_list(harness: LabHarness, tmp_path: Path) -> None:
    """Components, endpoints, topics, connectors and the doctor follow the one list of services."""
    file = tmp_path / "services.toml"
    entry = '\n[[service]]\nname = "loyalty"\nport = 8105\ndatabase_port = 5445\npaths = ["/loyalty"]\n'
    file.write_text((CONFIG / "services.toml").read_text(encoding="utf-8") + entry)
    services = load_services(file)
    assert [service.name for service in services] == ["order", "inventory", "payment", "shipping", "loyalty"]
    topics = load_topics(services)
    assert {"loyalty.events", "loyalty.dlq"} <= set(topics.names)
    assert (topics.partitions, len(topics.names)) == (4, 15)
    lab = Lab(paths=harness.paths, services=services)
    assert {"loyalty", "loyalty-db"} <= set(lab.status().components)
    backend = access_of(lab).backend()
    assert len(backend.required()) == 14
    harness.paths.make()
    keys = [key for component in backend._components.values() for key in component.ports]  # type: ignore[attr-defined]
    backend.update(ports={key: 20000 + number for number, key in enumerate(keys)})
    where = lab.endpoints.to_json()
    assert set(where["databases"]) == {service.name for service in services}  # type: ignore[call-overload]
    assert str(where["loyalty"]).startswith("http://127.0.0.1:")
    config = connector_config(access_of(lab).backend().database_for_connect("loyalty"))
    assert (config["topic.prefix"], config["database.dbname"]) == ("loyalty", "loyalty")
    assert config["transforms.outbox.route.topic.replacement"] == "${routedByValue}.events"
