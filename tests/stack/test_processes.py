"""Processes of the lab: how they stop, and which of them are leftovers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from labstack.backends.processes import process
from labstack.backends.processes.leftovers import leftovers
from labstack.backends.processes.process import Command
from labstack.state import ComponentRecord, ExtensionRecord, LabState, ProcessId
from labstack.waiting import wait_until

PARENT = """
import signal, subprocess, sys
def leave(*_):
    print("left", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, leave)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
while True:
    signal.pause()
"""
LAB = "test-of-processes"


@dataclass
class Family:
    """A started process with one child, and its log."""

    identity: ProcessId
    log: Path

    @property
    def child(self) -> psutil.Process:
        """The child."""
        return psutil.Process(int(self.log.read_text().splitlines()[0]))

    def pids(self) -> set[int]:
        """Return the pids of both."""
        return {self.identity.pid, self.child.pid}


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    """Start a process with the marker of the lab's order service, and its child."""
    log = tmp_path / "log"
    identity = process.spawn(Command([sys.executable, "-c", PARENT], tmp_path), log, f"{LAB}/order")
    started = Family(identity, log)
    try:
        wait_until(lambda: log.read_text().endswith("\n"), 20)
        yield started
    finally:
        process.destroy(process.tree(identity))


def left(family: Family) -> bool:
    return family.log.read_text().splitlines()[1:] == ["left"]


def test_paused_process_leaves_within_its_grace_time(family: Family) -> None:
    """A paused process is resumed, so that it acts on the stop signal instead of being killed."""
    child = family.child
    process.send(process.tree(family.identity), signal.SIGSTOP)
    process.end(family.identity, signal.SIGTERM, grace=5)
    assert left(family)
    assert not process.alive(family.identity)
    assert not process.is_alive(child)


def test_process_that_ignores_the_stop_signal_is_killed_with_its_children(family: Family) -> None:
    """A process that outlives its grace time is killed, and its children with it."""
    child = family.child
    process.end(family.identity, signal.SIGWINCH, grace=0.1)  # the process ignores this signal
    assert not left(family)
    assert not process.alive(family.identity)
    assert not process.is_alive(child)


def found(state: LabState) -> set[int]:
    return {one.pid for one in leftovers(state)}


def test_child_of_a_recorded_process_is_not_a_leftover(family: Family) -> None:
    """Neither a recorded process nor its child is a leftover; without the record, both are."""
    assert found(LabState(LAB, components={"order": ComponentRecord(family.identity)})) == set()
    assert found(LabState(LAB)) == family.pids()
    assert found(LabState("another-lab")) == set()


def test_child_of_a_process_that_is_no_longer_recorded_is_a_leftover(family: Family) -> None:
    """A record of a process with the same pid and another start does not make its children known."""
    other = ComponentRecord(ProcessId(family.identity.pid, family.identity.born - 10))
    assert found(LabState(LAB, components={"order": other})) == family.pids()


def test_process_of_an_extension_service_is_not_a_leftover(tmp_path: Path) -> None:
    """The process of an extension service does not count as a leftover while the lab's state lists the service."""
    command = Command([sys.executable, "-c", "import signal; signal.pause()"], tmp_path)
    marker = process.extension_marker("loyalty")
    identity = process.spawn(command, tmp_path / "log", f"{LAB}/{marker}")
    try:
        assert found(LabState(LAB, extensions={"loyalty": ExtensionRecord("order")})) == set()
        assert found(LabState(LAB, extensions={"another": ExtensionRecord("order")})) == {identity.pid}
    finally:
        process.destroy(process.tree(identity))


def test_listener_is_told_from_another_programs() -> None:
    """`listens` is true for the port of the process's own socket only."""
    own = ProcessId.of(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert process.listens(own, port)
        with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as other:
            assert not process.listens(ProcessId.of(other.pid), port)
            other.kill()
    assert not process.listens(own, port)
