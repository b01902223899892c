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
from labstack.backends.docker import checks, images
from labstack.backends.docker.backend import COMPONENT_LABEL, FOLDER_LABEL, LAB_LABEL
from labstack.backends.docker.engine import engine
from labstack.ports.free import choose
from labstack.state import StateStore
from tests.stack.labs import COMPONENTS, ROOT, Grounds, python
from tests.stack.one_order import ended, place

pytestmark = pytest.mark.skipif(
    os.environ.get("LAB_MODE") != "containers", reason="for container mode: python -m tests.containers pytest ..."
)
PYTHON_IMAGE = images.image("python")


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Callable[[str, Path], str]]:
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


def running(name: str) -> bool:
    return bool(engine().containers.list(filters={"name": name}))


def test_every_component_is_a_container_that_only_this_machine_reaches(shared: Grounds) -> None:
    """All containers are on one network, know each other by name, and are published on 127.0.0.1 only."""
    status = shared.status()
    assert (status["mode"], status["state"], set(status["components"])) == ("containers", "ready", set(COMPONENTS))
    for name in COMPONENTS:
        container = engine().containers.get(status["components"][name]["container"])
        bound = [one for many in container.attrs["NetworkSettings"]["Ports"].values() if many for one in many]
        assert {one["HostIp"] for one in bound} == {"127.0.0.1"}, name
        ports = shared.lab.backend.store.read().ports.values()  # type: ignore[attr-defined]
        assert all(int(one["HostPort"]) in ports for one in bound)
        (network,) = container.attrs["NetworkSettings"]["Networks"].values()
        assert name in network["Aliases"]


def test_a_container_that_publishes_another_port_than_the_lab_has_is_made_anew(shared: Grounds) -> None:
    """`lab up` recreates a container that publishes an old port.

    While the lab chooses its ports, the engine restarts some containers by itself, with their old ports.
    """
    store = StateStore(shared.paths)
    before = store.read().ports["payment-db"]
    for port in (choose(before, {before}), before):  # and back, because no other lab may get this port
        state = store.read()
        state.ports["payment-db"] = port
        store.write(state)
        shared.must("kill", "order")
        shared.must("up")
        assert f":{port}/" in shared.lab.endpoints.databases["payment"]
    assert ended(shared.lab, place(shared.lab)) == ("COMPLETED", None)


def test_the_name_of_a_stopped_component_is_unknown_at_once(shared: Grounds) -> None:
    """A lookup of a stopped component's name fails at once.

    No DNS server outside the lab is queried; without a network, it would never respond.
    """
    ask = "import socket\ntry: socket.getaddrinfo('payment-db', 5432)\nexcept socket.gaierror: print('unknown')"
    shared.lab.stop("payment-db")
    try:
        order = engine().containers.get(shared.status()["components"]["order"]["container"])
        answer = order.exec_run(["timeout", "5", "python", "-c", ask]).output.decode()
    finally:
        shared.lab.start("payment-db")
    assert answer.strip() == "unknown"


def test_no_program_runs_as_root(shared: Grounds) -> None:
    """The services, the broker, Connect and each PostgreSQL server run as users other than root."""
    for name in COMPONENTS:
        container = engine().containers.get(shared.lab.backend.inspect(name).container)
        owners = {row[1] for row in container.top(ps_args="-eo pid,uid")["Processes"]}
        assert "0" not in owners, (name, owners)


def test_a_learners_edit_is_in_the_next_image_and_only_an_edit_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The services' image depends on labservices/: an edit results in another image that contains it."""
    for folder in ("labservices", "datasets"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(images, "SOURCES", (tmp_path / "datasets", tmp_path / "labservices"))
    before = images.services_image()
    assert images.services_image() == before
    (tmp_path / "labservices" / "edited.py").write_text("print('by a learner')\n")
    after = images.services_image()
    assert after != before
    said = engine().containers.run(after, entrypoint=["python", "-m", "labservices.edited"], remove=True)
    assert said.decode().strip() == "by a learner"
    engine().images.remove(after)


def test_down_ends_this_lab_and_no_other(grounds: Grounds, foreign: Callable[[str, Path], str], tmp_path: Path) -> None:
    """All containers, networks and volumes of the lab are removed, recorded or not; another lab's remain."""
    mine, other = StateStore(grounds.paths).lab_id, foreign("another", tmp_path)
    grounds.paths.make()
    grounds.lab.prefetch()
    stray = foreign(mine, grounds.paths.state)
    grounds.must("down", "--purge")
    assert not running(stray)
    assert running(other)
    assert grounds.in_docker() == []
    assert engine().volumes.list(filters={"name": other}) != []


def test_what_is_left_of_a_lab_whose_folder_is_gone_is_swept(
    shared: Grounds, foreign: Callable[[str, Path], str], tmp_path: Path
) -> None:
    """The doctor reports the container, `lab sweep` removes it, and containers of an existing lab remain."""
    owned, orphan = foreign("owned", tmp_path), foreign("orphan", tmp_path / "gone")
    (found,) = [finding for finding in shared.lab.doctor() if finding.check == "leftovers"]
    assert (found.verdict, "lab sweep" in found.advice) == ("warning", True)
    assert orphan in shared.must("sweep")
    assert not running(orphan)
    assert running(owned)
    assert checks.orphans() == {}
    assert shared.lab.status(memory=False).state == "ready"


def test_a_container_that_dies_while_it_starts(grounds: Grounds) -> None:
    """The error has the container's name and the end of its log, and nothing of the startup is left."""
    failed = grounds.run("up", LAB_IMAGE_KAFKA=PYTHON_IMAGE)
    assert failed.returncode == 1
    assert "kafka died while it was starting" in failed.stderr
    assert "Next step" in failed.stderr
    assert [one for one in grounds.in_docker() if not one.startswith("volume ")] == []


def test_an_image_that_can_not_be_pulled(grounds: Grounds) -> None:
    """Nothing starts before all images are present; the error names the image and the possible next steps."""
    failed = grounds.run("up", LAB_IMAGE_CONNECT="localhost:9/no/such/image:1")
    assert failed.returncode == 1
    assert "localhost:9/no/such/image:1 can't be pulled" in failed.stderr
    assert "LAB_IMAGE_CONNECT" in failed.stderr
    assert grounds.in_docker() == []


def test_where_containers_fail_the_lab_starts_as_local_processes(grounds: Grounds) -> None:
    """In mode `auto` only, one line gives the reason, no container is left, and an order completes."""
    up = grounds.run("up", LAB_MODE="auto", LAB_IMAGE_CONNECT="localhost:9/no/such/image:1")
    assert up.returncode == 0, up.stderr
    (said,) = [line for line in up.stderr.splitlines() if line.startswith("Containers failed")]
    assert "localhost:9/no/such/image:1 can't be pulled" in said
    assert "LAB_MODE=containers" in said
    assert grounds.status()["mode"] == "local"
    assert ended(grounds.lab, place(grounds.lab)) == ("COMPLETED", None)
    assert [one for one in grounds.in_docker() if not one.startswith("volume ")] == []


def test_no_permission_on_the_socket(tmp_path: Path) -> None:
    """Without permission for Docker's socket, a user gets the reason, and the lab chooses the local backend."""
    become = "import os, labstack.backends.docker.engine; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    code = f"{become}; from labstack.backends.choice import choose_mode; print(choose_mode('auto'))"
    environment = {**os.environ, "HOME": str(tmp_path), "LAB_MODE": "auto"}
    said = python(code, environment)
    assert "Local mode: You are not allowed to use the Docker engine" in said


def test_a_mode_that_there_is_not(shared: Grounds) -> None:
    """An unknown mode is rejected by name, and so is another mode than the running lab's."""
    with pytest.raises(LabError, match="no mode 'cloud'"):
        choose_mode("cloud")
    refused = shared.run("--mode", "local", "up")
    assert refused.returncode == 1
    assert "runs in containers mode" in refused.stderr
