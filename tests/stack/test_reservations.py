"""Port reservations, which labs publish to each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import labstack.ports.reservations
from labstack.backends.processes import process
from labstack.ports.free import choose
from labstack.ports.plan import other_ports, planned_ports
from labstack.ports.reservations import MAX_PORTS, PortReservations
from labstack.process_id import ProcessId, this_process
from labstack.progress import Progress
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


def test_second_attempt_of_a_start_uses_no_port_of_the_first(tmp_path: Path) -> None:
    """After another program took a port, a start chooses other ports for all, and no usual one, although it is free."""
    usual = {f"component-{number}": choose(number, set()) for number in range(9092, 9100)}
    other = other_ports(usual)
    with planned_ports(usual, other, PortReservations("a", tmp_path), Progress()) as chosen:
        assert chosen == other
    assert len({*usual.values(), *other.values()}) == 2 * len(usual)


def test_labs_start_if_reservations_cannot_be_stored(tmp_path: Path) -> None:
    """If reservations can't be stored, labs start anyway."""
    (tmp_path / "file").write_text("")
    reservations = PortReservations("a", tmp_path / "file" / "reservations")
    reservations.reserve({1005}, [this_process()])
    with reservations.choosing() as others:
        assert others == set()
    reservations.release()


def test_reservation_folder_belongs_to_one_user(tmp_path: Path) -> None:
    """The folder's name contains the user's id, and only this user can open the folder."""
    assert PortReservations("a").folder.name.endswith(f"-{os.geteuid()}")
    folder = tmp_path / "reservations"
    folder.mkdir()
    folder.chmod(0o777)
    with PortReservations("a", folder).choosing():
        assert os.stat(folder).st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("squatted", ["foreign", "link", "file"])
def test_foreign_folder_is_not_used(squatted: str, tmp_path: Path) -> None:
    """A folder of another user, a link and a file are neither read nor written, and the start reports it."""
    folder, other = tmp_path / "reservations", tmp_path / "other"
    PortReservations("b", other).reserve({1006}, [this_process()])
    if squatted == "link":
        folder.symlink_to(other)
    elif squatted == "file":
        folder.touch()
    elif os.geteuid() == 0:
        other.rename(folder)
        os.chown(folder, 123456, 123456)
    else:
        pytest.skip("only root can make a folder of another user")
    reservations, notes = PortReservations("a", folder), list[str]()
    reservations.reserve({1007}, [this_process()])
    with reservations.choosing(notes.append) as others:
        assert others == set()
    assert ["can't use" in note for note in notes] == [True]
    reservations.release()
    assert not list(tmp_path.rglob("a.json"))


def test_no_file_in_the_folder_stops_a_start(tmp_path: Path) -> None:
    """A FIFO, a link, a device, deep JSON and huge files count as damaged, and a reservation is limited in size."""
    os.mkfifo(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to("/dev/zero")
    (tmp_path / "c.json").write_text("[" * 60_000)
    (tmp_path / "d.json").write_text("[" * 100_000)
    (tmp_path / "e.json").mkdir()
    (tmp_path / "h.json").write_text('{"ports": [1e999], "processes": []}')
    (tmp_path / "f.json").write_text('{"ports": {"1": 2}, "processes": 3}')
    with PortReservations("z", tmp_path).choosing() as others:
        assert others == set()
    PortReservations("g", tmp_path).reserve(range(1, 9000), [this_process()])
    assert len(PortReservations("z", tmp_path).held_by_others()) == MAX_PORTS


def test_held_lock_delays_a_start_for_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for another lab that holds the lock, reports it, and continues after a deadline."""
    monkeypatch.setattr(labstack.ports.reservations, "LOCK_SECONDS", 0.2)
    notes: list[str] = []
    with PortReservations("a", tmp_path).choosing(), PortReservations("b", tmp_path).choosing(notes.append):
        assert ["waiting up to 0.2 s" in notes[0], "without it" in notes[1]] == [True, True]


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
