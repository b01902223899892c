"""Port reservations, which labs publish to each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from labstack.backends.processes import process
from labstack.ports.free import choose
from labstack.ports.plan import planned_ports
from labstack.ports.reservations import PortReservations
from labstack.progress import Progress
from labstack.state import ProcessId, this_process
from tests.stack.labs import LabHarness


def test_ports_are_reserved_for_other_labs_until_released(tmp_path: Path) -> None:
    """The ports of a running lab are taken for every other lab, and free after it releases them."""
    folder = tmp_path / "reservations"
    ours, theirs = PortReservations("a", folder), PortReservations("b", folder)
    ours.reserve({1001, 1002}, [this_process()])
    assert theirs.held_by_others() == {1001, 1002}
    assert ours.held_by_others() == set()
    ours.release()
    assert theirs.held_by_others() == set()
    theirs.release()
    assert not folder.exists()


def test_stale_and_invalid_reservations_are_removed(tmp_path: Path) -> None:
    """A reservation whose processes have exited is removed, and so is an invalid one."""
    exited = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessId.of(exited.pid)
    exited.wait()
    PortReservations("dead", tmp_path).reserve({1003}, [identity])
    (tmp_path / "damaged.json").write_text("{")
    with PortReservations("b", tmp_path).choosing() as others:
        assert others == set()
    assert list(tmp_path.iterdir()) == []


def test_labs_choose_ports_one_at_a_time(tmp_path: Path) -> None:
    """While one lab chooses its ports, another waits and then sees the first one's reservation."""
    seen: list[set[int]] = []

    def choose() -> None:
        with PortReservations("b", tmp_path).choosing() as others:
            seen.append(others)

    with PortReservations("a", tmp_path).choosing():
        second = threading.Thread(target=choose)
        second.start()
        PortReservations("a", tmp_path).reserve({1004}, [this_process()])
        assert seen == []
    second.join(10)
    assert seen == [{1004}]


def test_labs_start_if_reservations_cannot_be_stored(tmp_path: Path) -> None:
    """If reservations can't be stored, labs start anyway."""
    (tmp_path / "file").write_text("")
    reservations = PortReservations("a", tmp_path / "file" / "reservations")
    reservations.reserve({1005}, [this_process()])
    with reservations.choosing() as others:
        assert others == set()
    reservations.release()


def test_reservation_folder_is_writable_for_every_user(tmp_path: Path) -> None:
    """Every user of the machine can write to the folder, but no user can remove another one's file."""
    folder = tmp_path / "reservations"
    with PortReservations("a", folder).choosing():
        assert os.stat(folder).st_mode & 0o7777 == 0o1777


def test_component_of_a_running_lab_restarts_on_its_port(harness: LabHarness) -> None:
    """A component of a running lab restarts on its port despite a later reservation; one of a dead lab does not."""
    harness.run_checked("up")
    lab, later = harness.lab, PortReservations("another-lab")
    lab.stop("payment")
    try:
        later.reserve(harness.state()["ports"].values(), [this_process()])
        lab.start("payment")
        assert lab.status(memory=False).state == "ready"
        process.destroy(harness.processes())
        refused = harness.run("start", "order-db")
        assert refused.returncode != 0
        assert "because another lab uses it" in refused.stderr
    finally:
        later.release()


def test_startup_prefers_the_last_port_then_the_usual_one(tmp_path: Path) -> None:
    """A startup takes the last port, else the usual one, else another, and reports only a newly chosen port."""
    reservations, progress = PortReservations("this", tmp_path / "ports"), Progress()
    usual, last = choose(0, {0}), choose(0, {0, 1})

    def planned(before: dict[str, int]) -> int:
        with planned_ports({"order": usual}, before, reservations, progress) as chosen:
            return chosen["order"]

    assert planned({}) == usual
    assert planned({"order": last}) == last
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", last))
        holder.listen()
        assert planned({"order": last}) == usual
    assert progress.notes == []
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", usual))
        holder.listen()
        third = planned({})
        assert third not in (usual, last)
        assert [f"port {usual} (order) by " in note for note in progress.notes] == [True]
        assert planned({"order": third}) == third
        assert len(progress.notes) == 1
