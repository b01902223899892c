"""Tests of the Docker backend only; the other tests cover what both backends have in common.

python -m tests.containers pytest tests/stack/test_container_mode.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labstack import LabError
from labstack.backends.choice import choose_mode
from labstack.backends.components import CONNECT_TIMER_SLACK
from labstack.backends.docker import checks, images
from labstack.backends.docker.backend import COMPONENT_LABEL, FOLDER_LABEL, LAB_LABEL
from labstack.backends.docker.engine import engine
from labstack.lab import access_of
from labstack.lifecycle.doctor import examine
from labstack.lifecycle.starting import prefetch
from labstack.ports.free import choose
from labstack.progress import Progress
from labstack.state import StateStore
from tests.stack.labs import COMPONENTS, ROOT, LabHarness, run_python
from tests.stack.one_order import place_order, wait_for_outcome

pytestmark = pytest.mark.skipif(
    os.environ.get("LAB_MODE") != "containers", reason="for container mode: python -m tests.containers pytest ..."
)
PYTHON_IMAGE = images.image("python")


@pytest.fixture
def make_foreign_container(tmp_path: Path) -> Iterator[Callable[[str, Path], str]]:
    """Make a container of another lab, with a volume."""
    made = []

    def make(lab: str, folder: Path) -> str:
        labels = {LAB_LABEL: lab, COMPONENT_LABEL: "kafka", FOLDER_LABEL: str(folder)}
        name = f"saga-lab-test-{lab}"
        engine().volumes.create(name, labels=labels)
        command = ["python3", "-c", "import signal; signal.pause()"]
        engine().containers.run(PYTHON_IMAGE, command, name=name, labels=labels, detach=True)
        made.append(name)
        return name

    yield make
    for name in made:
        for found in engine().containers.list(all=True, filters={"name": name}):
            found.remove(force=True)
        for volume in engine().volumes.list(filters={"name": name}):
            volume.remove(force=True)


def is_running(name: str) -> bool:
    return bool(engine().containers.list(filters={"name": name}))


def test_containers_share_a_network_and_publish_on_localhost_only(shared: LabHarness) -> None:
    """All containers are on one network, know each other by name, and are published on 127.0.0.1 only."""
    status = shared.status()
    assert (status["mode"], status["state"], set(status["components"])) == ("containers", "ready", set(COMPONENTS))
    for name in COMPONENTS:
        container = engine().containers.get(status["components"][name]["container"])
        bound = [one for many in container.attrs["NetworkSettings"]["Ports"].values() if many for one in many]
        assert {one["HostIp"] for one in bound} == {"127.0.0.1"}, name
        ports = access_of(shared.lab).state().ports.values()
        assert all(int(one["HostPort"]) in ports for one in bound)
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        assert name in network["Aliases"]


def test_up_recreates_a_container_that_publishes_an_old_port(shared: LabHarness) -> None:
    """`lab up` recreates a container that publishes an old port.

    While the lab chooses its ports, the engine restarts some containers by itself, with their old ports.
    """
    store = StateStore(shared.paths)
    before = store.read().ports["payment-db"]
    for port in (choose(before, {before}), before):  # and back, because no other lab may get this port
        state = store.read()
        state.ports["payment-db"] = port
        store.write(state)
        shared.run_checked("kill", "order")
        shared.run_checked("up")
        assert f":{port}/" in shared.lab.endpoints.databases["payment"]
    assert wait_for_outcome(shared.lab, place_order(shared.lab)) == ("COMPLETED", None)


def test_lookup_of_a_stopped_component_fails_at_once(shared: LabHarness) -> None:
    """A lookup of a stopped component's name fails at once.

    No DNS server outside the lab is queried; without a network, it would never respond.
    """
    lookup = "import socket\ntry: socket.getaddrinfo('payment-db', 5432)\nexcept socket.gaierror: print('unknown')"
    shared.lab.stop("payment-db")
    try:
        order = engine().containers.get(shared.status()["components"]["order"]["container"])
        answer = order.exec_run(["timeout", "5", "python", "-c", lookup]).output.decode()
    finally:
        shared.lab.start("payment-db")
    assert answer.strip() == "unknown"


def test_entry_point_of_connect_sets_the_timer_slack(shared: LabHarness) -> None:
    """A program that Connect's entry point starts has a timer slack of 2 ms; only the program itself may read it."""
    container = engine().containers.get(access_of(shared.lab).backend().inspect("connect").container)
    shell, option, script, name = access_of(shared.lab).backend().component("connect").entry_point  # type: ignore[attr-defined]
    read = script.replace("exec /docker-entrypoint.sh", "exec cat")
    assert read != script
    slack = container.exec_run([shell, option, read, name, "/proc/self/timerslack_ns"]).output
    assert int(slack) == CONNECT_TIMER_SLACK, slack


def test_no_program_runs_as_root(shared: LabHarness) -> None:
    """The services, the broker, Connect and each PostgreSQL server run as users other than root."""
    for name in COMPONENTS:
        container = engine().containers.get(access_of(shared.lab).backend().inspect(name).container)
        owners = {row[1] for row in container.top(ps_args="-eo pid,uid")["Processes"]}
        assert "0" not in owners, (name, owners)


def test_services_image_changes_only_when_labservices_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The services' image depends on labservices/: an edit results in another image that contains it."""
    for folder in ("labservices", "datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(images, "SOURCES", (tmp_path / "datasets", tmp_path / "labservices"))
    before = images.services_image()
    assert images.services_image() == before
    (tmp_path / "labservices" / "edited.py").write_text("print('by a learner')\n")
    after = images.services_image()
    assert after != before
    output = engine().containers.run(after, entrypoint=["python", "-m", "labservices.edited"], remove=True)
    assert output.decode().strip() == "by a learner"
    engine().images.remove(after)


def test_down_removes_only_this_labs_containers(
    harness: LabHarness, make_foreign_container: Callable[[str, Path], str], tmp_path: Path
) -> None:
    """All containers, networks and volumes of the lab are removed, recorded or not; another lab's remain."""
    mine, other = StateStore(harness.paths).lab_id, make_foreign_container("another", tmp_path)
    harness.paths.make()
    prefetch(access_of(harness.lab), Progress())
    stray = make_foreign_container(mine, harness.paths.state)
    harness.run_checked("down", "--purge")
    assert not is_running(stray)
    assert is_running(other)
    assert harness.docker_resources() == []
    assert engine().volumes.list(filters={"name": other}) != []


def test_sweep_removes_containers_of_a_deleted_lab(
    shared: LabHarness, make_foreign_container: Callable[[str, Path], str], tmp_path: Path
) -> None:
    """The doctor reports the container, `lab sweep` removes it, and containers of an existing lab remain."""
    owned, orphan = make_foreign_container("owned", tmp_path), make_foreign_container("orphan", tmp_path / "gone")
    (found,) = [finding for finding in examine(access_of(shared.lab)) if finding.check == "leftovers"]
    assert (found.verdict, "lab sweep" in found.advice) == ("warning", True)
    assert orphan in shared.run_checked("sweep")
    assert not is_running(orphan)
    assert is_running(owned)
    assert checks.orphans() == {}
    assert shared.lab.status(memory=False).state == "ready"


def test_error_names_the_container_that_died_at_startup(harness: LabHarness) -> None:
    """The error has the container's name and the end of its log; the others keep running until `lab down`."""
    failed = harness.run("up", LAB_IMAGE_KAFKA=PYTHON_IMAGE)
    assert failed.returncode == 1
    assert "kafka exited during startup" in failed.stderr
    assert "Next step" in failed.stderr
    assert f"container saga-lab-{StateStore(harness.paths).lab_id}-order-db" in harness.docker_resources()
    harness.run_checked("down")
    assert [one for one in harness.docker_resources() if not one.startswith("volume ")] == []


def test_nothing_starts_if_an_image_cannot_be_pulled(harness: LabHarness) -> None:
    """Nothing starts before all images are present; the error names the image and the possible next steps."""
    failed = harness.run("up", LAB_IMAGE_CONNECT="localhost:9/no/such/image:1")
    assert failed.returncode == 1
    assert "localhost:9/no/such/image:1 can't be pulled" in failed.stderr
    assert "LAB_IMAGE_CONNECT" in failed.stderr
    assert harness.docker_resources() == []


def test_auto_mode_falls_back_to_local_processes(harness: LabHarness) -> None:
    """In mode `auto` only, one line gives the reason, no container is left, and an order completes."""
    up = harness.run("up", LAB_MODE="auto", LAB_IMAGE_CONNECT="localhost:9/no/such/image:1")
    assert up.returncode == 0, up.stderr
    (output,) = [line for line in up.stderr.splitlines() if line.startswith("Containers failed")]
    assert "localhost:9/no/such/image:1 can't be pulled" in output
    assert "LAB_MODE=containers" in output
    assert harness.status()["mode"] == "local"
    assert wait_for_outcome(harness.lab, place_order(harness.lab)) == ("COMPLETED", None)
    assert [one for one in harness.docker_resources() if not one.startswith("volume ")] == []


def test_missing_socket_permission_selects_the_local_backend(tmp_path: Path) -> None:
    """Without permission for Docker's socket, a user gets the reason, and the lab chooses the local backend."""
    imports = "import os, labstack.backends.choice, labstack.backends.docker.engine"
    drop_privileges = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    code = f"{imports}; {drop_privileges}; from labstack.backends.choice import choose_mode; print(choose_mode('auto'))"
    environment = {**os.environ, "HOME": str(tmp_path), "LAB_MODE": "auto"}
    output = run_python(code, environment)
    assert "Local mode: You are not allowed to use the Docker engine" in output


def test_unknown_or_different_mode_is_rejected(shared: LabHarness) -> None:
    """An unknown mode is rejected by name, and so is another mode than the running lab's."""
    with pytest.raises(LabError, match="Unknown mode 'cloud'"):
        choose_mode("cloud")
    refused = shared.run("--mode", "local", "up")
    assert refused.returncode == 1
    assert "runs in containers mode" in refused.stderr
