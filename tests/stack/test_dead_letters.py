"""Records that a service can't handle: dead-lettered, listed, replayed or discarded."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from labstack import LabError
from labstack.clients import broker
from labstack.consistency.dead_letters import DeadLetter
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness
from tests.stack.one_order import cancel_order, ledger_effects, place_order, read_order, wait_for_outcome
from tests.stack.test_bad_days import assert_readable_error

PoisonedLab = tuple[LabHarness, str, DeadLetter]


@pytest.fixture
def poisoned_lab(shared: LabHarness) -> PoisonedLab:
    """Return a lab in which payment has dead-lettered an order's InventoryReserved, and would dead-letter the next."""
    lab = shared.lab
    lab.reset()
    lab.faults.on("payment", "poison-next")
    order = place_order(lab)
    assert wait_until(lambda: lab.dead_letters.all(), 30, interval=0.1)
    (letter,) = lab.dead_letters.all()
    return shared, order, letter


def test_poisoned_record_is_dead_lettered_after_five_attempts(poisoned_lab: PoisonedLab) -> None:
    """After five attempts, the record is in the service's dead-letter topic, unchanged, with its history in headers."""
    harness, order, letter = poisoned_lab
    assert (letter.service, letter.order_id, letter.type) == ("payment", order, "InventoryReserved")
    assert (letter.attempts, letter.behind) == (5, 0)
    assert "Poisoned" in letter.error
    kafka = harness.lab.endpoints.kafka
    original = next(r for r in broker.read_all(kafka, ["inventory.events"]) if r.key == order)
    (dead,) = broker.read_all(kafka, ["payment.dlq"])
    assert (dead.key, dead.value) == (original.key, original.value)
    assert original.headers.items() <= dead.headers.items()
    story = {name: value for name, value in dead.headers.items() if name not in original.headers}
    when = story.pop("dlq.time")
    assert when is not None
    assert when > "2026"
    assert story == {
        "dlq.service": "payment",
        "dlq.id": letter.id,
        "dlq.topic": "inventory.events",
        "dlq.partition": str(original.partition),
        "dlq.offset": str(original.offset),
        "dlq.attempts": "5",
        "dlq.error": letter.error,
    }


def test_dead_letter_blocks_only_its_own_order(poisoned_lab: PoisonedLab) -> None:
    """Another order completes, a later event of the same order waits, and `lab check` names the dead letter."""
    harness, order, letter = poisoned_lab
    lab = harness.lab
    assert wait_for_outcome(lab, place_order(lab)) == ("COMPLETED", None)
    assert cancel_order(lab, order) == 202
    assert wait_until(lambda: lab.dead_letters.all()[0].behind == 1, 10)
    verdicts = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    assert [verdict for verdict in verdicts.values() if not verdict.holds] == []
    assert verdicts["orders-are-terminal"].figures["held"] == 1
    assert verdicts["orders-are-terminal"].notes == [f"{order} is held by {letter.id}"]
    assert read_order(lab, order)["status"] == "CANCELLING"


def test_commands_list_show_and_replay_a_dead_letter(poisoned_lab: PoisonedLab) -> None:
    """`list` and `show` print a dead letter; `replay` fails as long as the cause exists, and succeeds afterwards."""
    harness, order, letter = poisoned_lab
    lab = harness.lab
    listed = harness.run_checked("dead-letters", "list")
    assert all(word in listed for word in (letter.id, order, "InventoryReserved", "5 attempts", "Poisoned"))
    assert json.loads(harness.run_checked("dead-letters", "list", "--json")) == [letter.to_json()]
    shown = harness.run_checked("dead-letters", "show", letter.id)
    assert all(word in shown for word in (letter.id, order, "traceparent", "reservation_id", "Poisoned"))
    assert json.loads(harness.run_checked("dead-letters", "show", letter.id, "--json")) == letter.to_json()
    again = harness.run("dead-letters", "replay", letter.id)
    assert again.returncode == 1
    assert f"{letter.id} failed again, 5 times" in again.stderr
    assert [dead.id for dead in lab.dead_letters.all()] == [letter.id]

    assert cancel_order(lab, order) == 202
    assert wait_until(lambda: lab.dead_letters.all()[0].behind == 1, 10)
    lab.faults.off("payment", "poison-next")
    assert letter.id in harness.run_checked("dead-letters", "replay", letter.id)
    # Payment captures the money first, because that event came first, and then refunds it.
    assert wait_for_outcome(lab, order) == ("CANCELLED", "cancelled_by_customer")
    assert ledger_effects(lab, order) == ["capture", "refund"]
    assert harness.run_checked("dead-letters", "list").strip() == "No dead letters."
    assert harness.run_checked("dead-letters", "list", "--json").strip() == "[]"
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_discard_releases_the_parked_events(poisoned_lab: PoisonedLab) -> None:
    """After a discard, parked events are handled as if the record had never existed, and its order gets no answer."""
    harness, order, letter = poisoned_lab
    lab = harness.lab
    lab.faults.off("payment", "poison-next")
    assert cancel_order(lab, order) == 202
    assert letter.id in harness.run_checked("dead-letters", "discard", letter.id)
    assert lab.dead_letters.all() == []
    # The referee reports it, and `resend` lets payment handle the event after all.
    by_name = {verdict.name: verdict for verdict in lab.check(wait_for_rest=60)}
    assert by_name["orders-are-terminal"].offenders == [order]
    assert by_name["inboxes-hold-each-event-once"].offenders == [order]
    lab.resend(order)
    assert wait_for_outcome(lab, order) == ("CANCELLED", "cancelled_by_customer")
    assert ledger_effects(lab, order) == []
    assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []


def test_impossible_dead_letter_commands_name_the_next_step(poisoned_lab: PoisonedLab, harness: LabHarness) -> None:
    """An unknown dead letter, or a stopped service, database or lab, is an error with the next step."""
    running, _, letter = poisoned_lab
    for verb in ("show", "replay"):
        assert_readable_error(running.run("dead-letters", verb, "payment-4711"), "payment-4711", letter.id)
    running.lab.stop("payment")
    for verb in ("replay", "discard"):
        assert_readable_error(running.run("dead-letters", verb, letter.id), "payment", "lab start payment")
    running.lab.stop("payment-db")
    assert_readable_error(running.run("dead-letters", "list"), "payment", "lab start payment-db")
    assert_readable_error(harness.run("dead-letters", "list"), "not running", "lab up")
    calls: tuple[Callable[[], object], ...] = (
        harness.lab.dead_letters.all,
        lambda: harness.lab.dead_letters.replay(letter.id),
        lambda: harness.lab.dead_letters.discard(letter.id),
    )
    for call in calls:
        with pytest.raises(LabError, match="not running"):
            call()
