"""Extension services: services that a learner adds to a lab, and their shutdown with the lab."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labstack.ports import free as ports
from tests.stack.labs import Grounds

QUIET = """
from labservices.messaging.events import PaymentCompleted

HANDLERS = {PaymentCompleted: lambda db, event, event_id: None}
"""


def test_an_end_of_the_lab_ends_its_guests(grounds: Grounds, tmp_path: Path) -> None:
    """A running extension service is not a leftover; `lab down` stops it and keeps its data, `--purge` removes it."""
    file = tmp_path / "visitor.py"
    file.write_text(QUIET, encoding="utf-8")
    grounds.must("up")
    guests = grounds.lab.guests
    guests.invite("visitor", "order")
    guests.start("visitor", file)
    assert guests.runs("visitor")
    assert grounds.finding("leftovers").verdict == "ok"
    grounds.must("down")
    grounds.assert_nothing_runs()
    assert guests.names == ["visitor"]
    grounds.must("down", "--purge")
    assert guests.names == []


def test_a_guest_whose_port_is_taken_meanwhile_starts_with_another(
    shared: Grounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension service chooses another port if another lab takes the chosen one before it starts."""
    file = tmp_path / "latecomer.py"
    file.write_text(QUIET, encoding="utf-8")
    guests = shared.lab.guests
    guests.invite("latecomer", "order")
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        taken, choose = quicker.getsockname()[1], ports.choose
        answers = iter([taken])
        monkeypatch.setattr(ports, "choose", lambda usual, others: next(answers, None) or choose(usual, others))
        guests.start("latecomer", file)
    assert guests.runs("latecomer")
    assert guests.urls["latecomer"] != f"http://127.0.0.1:{taken}"
    shared.lab.reset()
    assert guests.names == []
