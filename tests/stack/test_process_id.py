"""The identity of a process, and questions about processes that end meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from labstack.backends.processes import process
from labstack.process_id import ProcessId, ask, is_alive, this_process, with_children
from labstack.state import ComponentRecord, LabState, StateStore
from tests.stack.labs import LabHarness

ENDED = (psutil.NoSuchProcess(1), psutil.ZombieProcess(1), FileNotFoundError("/proc/1/stat"), ProcessLookupError())


def ended_process() -> tuple[ProcessId, psutil.Process]:
    """Return a process that has just ended, by both of its names."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity, handle = ProcessId.of(child.pid), psutil.Process(child.pid)
    assert identity.process() == handle
    child.communicate()
    return identity, handle


def test_identity_does_not_depend_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A living process keeps its identity when the wall clock is stepped, by which psutil computes start times."""
    ours, before = this_process(), psutil.Process().create_time()
    if sys.platform == "linux":
        moved = psutil._pslinux.boot_time() + 3
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: moved)
        assert psutil.Process().create_time() > before + 2
    assert process.alive(ours)
    assert ProcessId.of(os.getpid()) == ours


def test_reused_pid_is_another_process() -> None:
    """A process with the same pid and another start time is another process, and so is one that had ended already."""
    ours = this_process()
    assert ProcessId(ours.pid, ours.born + 1).process() is None
    ended, _ = ended_process()
    assert ProcessId.of(ended.pid).process() is None


@pytest.mark.parametrize("error", ENDED, ids=lambda error: type(error).__name__)
def test_question_survives_the_end_of_its_process(error: Exception) -> None:
    """A question about a process that ends meanwhile returns the default, whatever error the system raises."""

    def question() -> str:
        raise error

    assert ask(question, "ended") == "ended"


def test_ended_processes_cause_no_error() -> None:
    """An ended process is not alive, has no children, uses no memory, and takes signals without an error."""
    identity, handle = ended_process()
    assert not process.alive(identity)
    assert not is_alive(handle)
    assert with_children(handle) == [] == process.tree(identity)
    assert process.memory(identity) == 0
    assert process.marker_of(handle) == ""
    process.send([handle], signal.SIGTERM)
    process.destroy([handle])
    process.end(identity, signal.SIGTERM, grace=1)


def test_search_survives_processes_that_end_meanwhile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A search through all processes skips one that ends during the search."""
    pids = [*(ended_process()[0].pid for _ in range(3)), os.getppid()]
    monkeypatch.setattr("psutil.pids", lambda: pids)
    assert process.lab_processes("none") == []
    assert process.working_in(tmp_path) == []


COMMANDS = (
    *(
        ("check",),
        ("demo",),
        ("demo", "--json"),
        ("psql", "order"),
        ("dead-letters", "list"),
        ("scenario", "run", "broker-killed"),
    ),
    *((verb, "payment") for verb in ("start", "stop", "restart", "kill", "pause", "resume")),
    *(("outbox", "resend", "some-order"), ("switch", "on", "payment", "guards-off")),
    *(("mesh", "routes"), ("mesh", "diff"), ("mesh", "reset")),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_command_on_a_lab_without_ports_reports_that_it_does_not_run(harness: LabHarness, words: tuple[str]) -> None:
    """If a start was cut off before it chose ports, every command that needs the lab reports that it does not run."""
    harness.paths.make()
    store = StateStore(harness.paths)
    state = LabState(store.lab_id, phase="starting", components={"order": ComponentRecord()})
    store.write(state)
    done = harness.run(*words)
    assert done.returncode == 1, done
    said = done.stdout + done.stderr  # with --json, standard output has the error
    assert "Traceback" not in said
    assert "not running" in said
    assert "lab up" in said
