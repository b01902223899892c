"""Guests of a lab: services that somebody has added, and what an end of the lab makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.labs import Grounds

QUIET = """
from labservices.shared.events import PaymentCompleted

HANDLERS = {PaymentCompleted: lambda db, event, event_id: None}
"""


@pytest.mark.sampled
def test_an_end_of_the_lab_ends_its_guests(grounds: Grounds, tmp_path: Path) -> None:
    """`lab down` ends a guest's process, and keeps its database; `lab down --purge` forgets the guest."""
    file = tmp_path / "visitor.py"
    file.write_text(QUIET, encoding="utf-8")
    grounds.must("up")
    guests = grounds.lab.guests
    guests.invite("visitor", "order")
    guests.start("visitor", file)
    assert guests.runs("visitor")
    grounds.must("down")
    grounds.assert_nothing_runs()
    assert guests.names == ["visitor"]
    grounds.must("down", "--purge")
    assert guests.names == []
