"""Extension services: services that a learner adds to a lab, and their shutdown with the lab."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labstack.ports import free as ports
from tests.stack.labs import LabHarness

QUIET = """
from labservices.events import PaymentCompleted

HANDLERS = {PaymentCompleted: lambda db, event, event_id: None}
"""


def test_down_stops_extension_services(harness: LabHarness, tmp_path: Path) -> None:
    """A running extension service is not a leftover; `lab down` stops it and keeps its data, `--purge` removes it."""
    file = tmp_path / "visitor.py"
    file.write_text(QUIET, encoding="utf-8")
    harness.run_checked("up")
    extensions = harness.lab.extensions
    extensions.create("visitor", "order")
    extensions.start("visitor", file)
    assert extensions.runs("visitor")
    assert harness.finding("leftovers").verdict == "ok"
    harness.run_checked("down")
    harness.assert_nothing_runs()
    assert extensions.names == ["visitor"]
    harness.run_checked("down", "--purge")
    assert extensions.names == []


def test_extension_service_chooses_another_port_if_its_port_is_taken(
    shared: LabHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension service chooses another port if another lab takes the chosen one before it starts, even twice."""
    file = tmp_path / "latecomer.py"
    file.write_text(QUIET, encoding="utf-8")
    extensions = shared.lab.extensions
    extensions.create("latecomer", "order")
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        taken, choose = quicker.getsockname()[1], ports.choose_other
        answers = iter([taken, taken])
        for name in ("choose", "choose_other"):
            monkeypatch.setattr(ports, name, lambda usual, others: next(answers, None) or choose(usual, others))
        extensions.start("latecomer", file)
    assert extensions.runs("latecomer")
    assert extensions.urls["latecomer"] != f"http://127.0.0.1:{taken}"
    shared.lab.reset()
    assert extensions.names == []
