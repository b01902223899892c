"""The instructor's control room: the effect of its buttons, and the state that it shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from labkit import Session
from labkit.errors import KitError
from labkit.instructor.control_panel import notes, title
from labkit.instructor.control_room import ControlRoom
from labkit.waiting import wait_until
from labstack.errors import LabError
from labstack.scenarios import load_scenarios
from labstack.scenarios.stage import ScenarioActive
from tests.stack.intact import is_intact


@pytest.fixture
def control_room(session: Session) -> Iterator[ControlRoom]:
    """A control room on a lab as at the course's start; closed afterwards, and reset if a scenario is still on."""
    session.lab.reset()
    control_room = ControlRoom(session.lab, session.look)
    yield control_room
    control_room.close()
    if not is_intact(session.lab):
        session.lab.reset()


def enabled(control_room: ControlRoom) -> tuple[bool, bool, bool]:
    """Return whether the buttons to break, to heal and to reset are enabled."""
    assert control_room._panel
    panel = control_room._panel
    return tuple(not button.disabled for button in (panel.run_button, panel.heal_button, panel.reset_button))  # type: ignore[return-value]


def test_the_buttons_break_heal_and_reset(control_room: ControlRoom) -> None:
    """A click breaks the lab and another heals it; only useful buttons are enabled, and each step is shown."""
    control_room._repr_mimebundle_()
    assert control_room._panel
    control_room._panel.pick["no-stock"].click()
    assert control_room.chosen.name == "no-stock"
    assert enabled(control_room) == (True, False, True)
    control_room._panel.run_button.click()
    wait_until(lambda: control_room.phase == "broken", 60)
    wait_until(lambda: enabled(control_room) == (False, True, True), 5)
    assert "insufficient_stock" in control_room._panel.steps.value
    control_room._panel.heal_button.click()
    wait_until(lambda: control_room.phase == "idle", 60)
    assert control_room.log[-1].startswith("✓ healed")
    control_room._panel.reset_button.click()
    wait_until(lambda: control_room.log[-1].startswith("✓ reset"), 60)


def test_a_later_control_room_can_heal_the_scenario(session: Session, control_room: ControlRoom) -> None:
    """A scenario that an earlier kernel left on can be healed by the next one; until then, no other can be chosen."""
    control_room.choose("card-declined")
    control_room.run()
    later = ControlRoom(session.lab, session.look)
    assert (later.phase, later.chosen.name) == ("broken", "card-declined")
    with pytest.raises(KitError, match="card-declined is on"):
        later.choose("no-stock")
    later.heal()
    assert later.phase == "idle"


def test_a_failure_is_shown_and_a_reset_repairs_the_lab(session: Session, control_room: ControlRoom) -> None:
    """A degraded lab is not broken further; the room shows the reason, and its reset repairs the lab."""
    session.lab.stop("shipping")
    with pytest.raises(LabError, match="degraded"):
        control_room.run()
    assert control_room.phase == "idle"
    assert "degraded" in control_room.log[-1]
    control_room.reset()
    assert session.lab.status(memory=False).state == "ready"


@pytest.mark.long
def test_reset_starts_a_lab_that_is_down(session: Session, control_room: ControlRoom) -> None:
    """A reset also starts a lab that is down."""
    session.lab.down()
    control_room.reset()
    assert session.lab.status(memory=False).state == "ready"
    assert list(session.shop.orders()) == []


def test_healing_without_a_scenario_is_refused(control_room: ControlRoom) -> None:
    """Healing is refused if no scenario is on, and the room's state does not change."""
    with pytest.raises(ScenarioActive):
        control_room.heal()
    assert control_room.phase == "idle"


def test_closing_a_control_room_leaves_no_thread(control_room: ControlRoom) -> None:
    """A closed control room leaves no thread."""
    control_room._repr_mimebundle_()
    control_room.close()
    wait_until(lambda: not any(thread.name.startswith("labkit") for thread in threading.enumerate()), 10)


def test_every_scenario_card_is_complete() -> None:
    """Each scenario's card has its title, story, speaker notes and hints for the audience, without stray markup."""
    for scenario in load_scenarios().values():
        shown = title(scenario) + notes(scenario)
        assert shown.count("<li>") == len(scenario.say) + len(scenario.watch)
        assert "&lt;" in shown or "<" not in scenario.story
