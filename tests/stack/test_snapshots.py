"""Each verb reads the lab's state once, and creates its components once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from labstack import Lab
from labstack.backends.access import LabAccess
from labstack.lab import access_of
from labstack.state import LabState, StateStore
from tests.stack.labs import LabHarness

VERBS: dict[str, Callable[[Lab], object]] = {
    "up": lambda lab: lab.up(lambda progress: None),
    "status": lambda lab: lab.status(),
    "endpoints": lambda lab: lab.endpoints,
    "logs": lambda lab: lab.logs("kafka"),
    "check": lambda lab: lab.check(),
    "pause": lambda lab: lab.faults.pause("shipping"),
    "resume": lambda lab: lab.faults.resume("shipping"),
    "stop": lambda lab: lab.stop("shipping"),
    "start": lambda lab: lab.start("shipping"),
    "kill": lambda lab: lab.faults.kill("shipping"),
    "restart": lambda lab: lab.restart("shipping"),
    "faults.on": lambda lab: lab.faults.on("shipping", "slow-handler", 0.1),
    "mesh.apply": lambda lab: lab.mesh.apply(access_of(lab).paths.config("mesh.yaml")),
    "reset": lambda lab: lab.reset(lambda progress: None),
}
"""Verbs, in an order in which each finds the lab as it needs it."""


def test_each_verb_reads_the_state_once(shared: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb takes one snapshot of the lab's state, passes it on, and reads nothing again."""
    shared.make_ready()
    example = access_of(shared.lab).paths.config("mesh.yaml")
    example.parent.mkdir(parents=True, exist_ok=True)
    example.write_text(shared.lab.mesh.show(), encoding="utf-8")
    caller, reads = threading.get_ident(), []
    read = StateStore.read

    def counted(store: StateStore) -> LabState:
        assert threading.get_ident() == caller, "only the verb itself reads the state"
        reads.append(store)
        return read(store)

    monkeypatch.setattr(StateStore, "read", counted)
    counts = {}
    for name, verb in VERBS.items():
        reads.clear()
        verb(shared.lab)
        counts[name] = len(reads)
    assert counts == dict.fromkeys(VERBS, 1)


def test_next_verb_sees_the_changes_of_another_process(shared: LabHarness) -> None:
    """A snapshot ends with its verb: the next verb sees what another `Lab` object has changed since."""
    shared.make_ready()
    other = Lab(paths=shared.paths)
    shared.lab.stop("shipping")
    assert other.status(memory=False).components["shipping"].state == "stopped"
    other.start("shipping")
    assert shared.lab.status(memory=False).components["shipping"].state == "running"
    shared.lab.faults.pause("shipping")
    other.faults.resume("shipping")
    assert shared.lab.status(memory=False).complaints == {}


def test_nested_changes_share_one_snapshot(shared: LabHarness) -> None:
    """A change within a change updates the same snapshot, so neither overwrites the other's fields."""
    shared.make_ready()
    access: LabAccess = access_of(shared.lab)
    with access.changing() as outer:
        with access.changing() as inner:
            assert inner is outer is access.backend()
            inner.update(extensions={})
        outer.update(phase=outer.state.phase)
    assert access.backend() is not outer
