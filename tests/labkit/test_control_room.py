"""The instructor's control room: the effect of its buttons, and the state that it shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from labkit import Session
from labkit.errors import KitError
from labkit.views.control_room import ControlRoom
from labkit.views.desk import card
from labkit.waiting import wait_until
from labstack.errors import LabError
from labstack.scenarios import load_scenarios
from labstack.scenarios.stage import ScenarioOn


@pytest.fixture
def room(session: Session) -> Iterator[ControlRoom]:
    """A control room on a lab as at the course's start; closed and reset afterwards."""
    session.lab.reset()
    room = ControlRoom(session.lab, session.look)
    yield room
    room.close()
    session.lab.reset()


def enabled(room: ControlRoom) -> tuple[bool, bool, bool]:
    """Return whether the buttons to break, to heal and to reset are enabled."""
    assert room._desk
    desk = room._desk
    return tuple(not button.disabled for button in (desk.run_button, desk.heal_button, desk.reset_button))  # type: ignore[return-value]


def test_the_buttons_break_heal_and_reset(room: ControlRoom) -> None:
    """A click breaks the lab and another heals it; only useful buttons are enabled, and each step is shown."""
    room._repr_mimebundle_()
    assert room._desk
    room._desk.pick["no-stock"].click()
    assert room.chosen.name == "no-stock"
    assert enabled(room) == (True, False, True)
    room._desk.run_button.click()
    wait_until(lambda: room.phase == "broken", 60)
    wait_until(lambda: enabled(room) == (False, True, True), 5)
    assert "insufficient_stock" in room._desk.steps.value
    room._desk.heal_button.click()
    wait_until(lambda: room.phase == "idle", 60)
    assert room.log[-1].startswith("✓ healed")
    room._desk.reset_button.click()
    wait_until(lambda: room.log[-1].startswith("✓ reset"), 60)


def test_another_room_takes_over(session: Session, room: ControlRoom) -> None:
    """A scenario that an earlier kernel left on can be healed by the next one; until then, no other can be chosen."""
    room.choose("card-declined")
    room.run()
    later = ControlRoom(session.lab, session.look)
    assert (later.phase, later.chosen.name) == ("broken", "card-declined")
    with pytest.raises(KitError, match="card-declined is on"):
        later.choose("no-stock")
    later.heal()
    assert later.phase == "idle"


def test_what_fails_is_told_and_reset_helps(session: Session, room: ControlRoom) -> None:
    """A degraded lab is not broken further; the room shows the reason, and its reset repairs the lab."""
    session.lab.stop("shipping")
    with pytest.raises(LabError, match="degraded"):
        room.run()
    assert room.phase == "idle"
    assert "degraded" in room.log[-1]
    room.reset()
    assert session.lab.status(memory=False).state == "ready"


def test_reset_starts_a_lab_that_is_down(session: Session, room: ControlRoom) -> None:
    """A reset also starts a lab that is down."""
    session.lab.down()
    room.reset()
    assert session.lab.status(memory=False).state == "ready"
    assert list(session.shop.orders()) == []


def test_healing_nothing_is_refused(room: ControlRoom) -> None:
    """Healing is refused if no scenario is on, and the room's state does not change."""
    with pytest.raises(ScenarioOn):
        room.heal()
    assert room.phase == "idle"


def test_nothing_runs_on_after_it_is_closed(room: ControlRoom) -> None:
    """A closed control room leaves no thread."""
    room._repr_mimebundle_()
    room.close()
    wait_until(lambda: not any(thread.name.startswith("labkit") for thread in threading.enumerate()), 10)


def test_every_card_says_what_to_say() -> None:
    """Each scenario's card has its title, story, speaker notes and what to watch, without stray markup."""
    for one in load_scenarios().values():
        shown = card(one)
        assert shown.count("<li>") == len(one.say) + len(one.watch)
        assert "&lt;" in shown or "<" not in one.story
