"""Port reservations, which labs publish to each other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

from labstack.backends.processes import process
from labstack.ports.claims import PortClaims
from labstack.ports.free import choose
from labstack.ports.plan import planned_ports
from labstack.progress import Progress
from labstack.state import ProcessId, me
from tests.stack.labs import Grounds


def test_a_lab_sees_what_others_hold_not_what_it_holds_itself(tmp_path: Path) -> None:
    """The ports of a running lab are taken for every other lab, and free after it releases them."""
    folder = tmp_path / "claims"
    ours, theirs = PortClaims("a", folder), PortClaims("b", folder)
    ours.hold({1001, 1002}, [me()])
    assert theirs.of_others() == {1001, 1002}
    assert ours.of_others() == set()
    ours.release()
    assert theirs.of_others() == set()
    theirs.release()
    assert not folder.exists()


def test_the_claim_of_a_dead_lab_counts_for_nothing(tmp_path: Path) -> None:
    """A reservation whose processes have exited is removed, and so is an invalid one."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    identity = ProcessId.of(gone.pid)
    gone.wait()
    PortClaims("dead", tmp_path).hold({1003}, [identity])
    (tmp_path / "damaged.json").write_text("{")
    with PortClaims("b", tmp_path).choosing() as others:
        assert others == set()
    assert list(tmp_path.iterdir()) == []


def test_only_one_lab_chooses_at_a_time(tmp_path: Path) -> None:
    """While one lab chooses its ports, another waits and then sees the first one's reservation."""
    seen: list[set[int]] = []

    def choose() -> None:
        with PortClaims("b", tmp_path).choosing() as others:
            seen.append(others)

    with PortClaims("a", tmp_path).choosing():
        second = threading.Thread(target=choose)
        second.start()
        PortClaims("a", tmp_path).hold({1004}, [me()])
        assert seen == []
    second.join(10)
    assert seen == [{1004}]


def test_without_the_folder_nothing_is_known(tmp_path: Path) -> None:
    """If reservations can't be stored, labs start anyway."""
    (tmp_path / "file").write_text("")
    claims = PortClaims("a", tmp_path / "file" / "claims")
    claims.hold({1005}, [me()])
    with claims.choosing() as others:
        assert others == set()
    claims.release()


def test_everybody_may_hold(tmp_path: Path) -> None:
    """Every user of the machine can write to the folder, but no user can remove another one's file."""
    folder = tmp_path / "claims"
    with PortClaims("a", folder).choosing():
        assert os.stat(folder).st_mode & 0o7777 == 0o1777


def test_a_part_comes_back_to_its_port(grounds: Grounds) -> None:
    """A component of a running lab restarts on its port despite a later reservation; one of a dead lab does not."""
    grounds.must("up")
    lab, later = grounds.lab, PortClaims("another-lab")
    lab.stop("payment")
    try:
        later.hold(grounds.state()["ports"].values(), [me()])
        lab.start("payment")
        assert lab.status(memory=False).state == "ready"
        process.destroy(grounds.processes())
        refused = grounds.run("start", "order-db")
        assert refused.returncode != 0
        assert "because another lab uses it" in refused.stderr
    finally:
        later.release()


def test_ports_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    """A startup takes the last port, else the usual one, else another, and reports only a newly chosen port."""
    claims, told = PortClaims("this", tmp_path / "ports"), Progress()
    usual, last = choose(0, {0}), choose(0, {0, 1})

    def planned(before: dict[str, int]) -> int:
        with planned_ports({"order": usual}, before, claims, told) as chosen:
            return chosen["order"]

    assert planned({}) == usual
    assert planned({"order": last}) == last
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", last))
        holder.listen()
        assert planned({"order": last}) == usual
    assert told.notes == []
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", usual))
        holder.listen()
        third = planned({})
        assert third not in (usual, last)
        assert [f"port {usual} (order) by " in note for note in told.notes] == [True]
        assert planned({"order": third}) == third
        assert len(told.notes) == 1
