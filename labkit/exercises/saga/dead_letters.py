"""The exercises of notebook 05."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Producer

from labkit.errors import NotFound, QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.waiting import wait_until
from labservices.contract import MAX_ATTEMPTS, RETRY_FIRST, RETRY_MAX
from labstack import waiting
from labstack.consistency.dead_letters import DeadLetter

PARKED = "SELECT state, headers ->> 'ce_type' AS type FROM parked_records WHERE key = %(order)s ORDER BY parking_id"
DEAD = "next(letter for letter in lab.dead_letters.all() if letter.order_id == given.order)"


def send(bench: Bench, key: str, value: str, headers: Mapping[str, str]) -> None:
    """Send a record to order.events directly, as no service does."""
    producer = Producer({"bootstrap.servers": bench.lab.endpoints.kafka})
    producer.produce("order.events", value, key, headers={**headers})
    producer.flush(10)


def letters_of(bench: Bench, key: str, service: str | None = None) -> list[DeadLetter]:
    """Return the dead letters with a key."""
    return [
        letter
        for letter in bench.lab.dead_letters.all()
        if letter.order_id == key and service in (None, letter.service)
    ]


def poison_an_order(bench: Bench) -> str:
    """Make payment fail on the next event, place an order, and return its id once it hangs on the dead letter."""
    heal(bench)
    bench.lab.check(wait_for_rest=15)  # so that the next event is this order's
    bench.lab.faults.on("payment", "poison-next")
    order = bench.shop.place_order("grace", "vienna", {"chamomile": 1})
    wait_until(lambda: letters_of(bench, order.order_id), 30, what="the dead letter")
    return order.order_id


def heal(bench: Bench) -> None:
    """Switch the fault off, and replay payment's dead letters."""
    bench.lab.faults.off("payment")
    for letter in bench.lab.dead_letters.all():
        if letter.service == "payment":
            bench.lab.dead_letters.replay(letter.id)


def is_handled(bench: Bench, order: str) -> bool:
    """Return whether payment has handled the order's InventoryReserved."""
    event = bench.look.kafka.record(order, "InventoryReserved").record.headers["ce_id"]
    query = "SELECT event_id FROM inbox WHERE event_id = %(event)s"
    return len(bench.look.db.rows("payment", query, event=event)) == 1


def recover(bench: Bench) -> str:
    """Heal payment, and wait until the order ends, whatever happened to it."""
    heal(bench)
    with suppress(NotFound):
        if not is_handled(bench, bench.shop.order(bench.given.order).order_id):
            bench.lab.resend(bench.given.order)
        bench.shop.follow(bench.given.order)
    return "Payment handles all events again, and no dead letter blocks the order."


class HowLongAtMost(Exercise):
    """Exponential backoff with jitter."""

    name = "how-long-at-most"
    title = "What is the maximum number of seconds between the first attempt and the fifth?"
    tip = (
        "Between five attempts there are four waits. Each is twice as long as the previous one, and jitter may "
        "add half of it."
    )
    answer = "answer = 1.5 * (0.2 + 0.4 + 0.8 + 1.6)"
    why = (
        "At most 4.5 s, and at least 1.5 s. Doubling gives a temporary cause (a lock, a restart) more and more time, "
        "at little cost; the jitter prevents a thousand records that failed together from being retried together. "
        "After the fifth attempt there is no wait: the record is dead-lettered."
    )
    mistakes = (
        Wrong("answer = 0.2 + 0.4 + 0.8 + 1.6", "jitter"),
        Wrong("answer = 1.5 * (0.2 + 0.4 + 0.8 + 1.6 + 3.2)", "four waits"),
        Wrong("answer = 5 * 0.2", "twice"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        waits = [min(RETRY_FIRST * 2.0**n, RETRY_MAX) for n in range(MAX_ATTEMPTS)]
        if not isinstance(answer, int | float):
            return wrong("The answer is a number of seconds.")
        if abs(answer - 1.5 * sum(waits[:-1])) < 0.01:
            return right("Four waits, each at its maximum.")
        if abs(answer - sum(waits[:-1])) < 0.01:
            return wrong("That is their sum without jitter. Each wait may be half as long again.")
        if abs(answer - 1.5 * sum(waits)) < 0.01:
            return wrong("You counted a wait after the last attempt. Five attempts have four waits between them.")
        return wrong(
            "Each wait is about twice as long as the previous one: 0.2, 0.4, … Add them up, each at its maximum."
        )


class ReadTheStory(Exercise):
    """The headers of a dead letter contain its history."""

    name = "read-the-story"
    title = "From which topic did a dead letter come, and after how many attempts was it dead-lettered?"
    tip = "look.kafka.records(given.key, 'inventory.dlq') has it. Its history is in the headers that begin with dlq."
    answer = """
        letter = look.kafka.records(given.key, "inventory.dlq")[0]
        answer = (letter.headers["dlq.topic"], int(letter.headers["dlq.attempts"]))
    """
    why = (
        "It came from order.events and was dead-lettered at once: its schema has the major version 7, whose fields no "
        "service here understands, and a retry can't change that. The record itself is unchanged, and the headers "
        "show where it came from, so an engineer on call can start without a log."
    )
    mistakes = (
        Wrong('answer = ("inventory.dlq", 1)', "is now"),
        Wrong('answer = ("payment.events", 1)', "another topic"),
        Wrong('answer = ("order.events", 5)', "waiting"),
        Wrong('answer = "order.events"', "pair"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        key = str(uuid.uuid4())
        headers = {
            "ce_id": str(uuid.uuid4()),
            "ce_type": "OrderCreated",
            "ce_dataschema": "urn:sagalab:OrderCreated:7.0",
        }
        send(bench, key, "{}", headers)
        wait_until(lambda: letters_of(bench, key), 20, what="the dead letter")
        return "inventory.dlq holds a record with the key given.key.", {"key": key}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        (letter,) = bench.look.kafka.take(1, bench.given.key, "inventory.dlq")
        topic, attempts = letter.headers["dlq.topic"], int(letter.headers["dlq.attempts"] or 0)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return wrong("The answer is a pair: (topic, attempts).")
        if answer[0] != topic:
            if answer[0] == "inventory.dlq":
                return wrong("That is where it is now. From where did inventory read it? One of its headers shows it.")
            return wrong("Inventory read it from another topic. Its header dlq.topic contains the name.")
        if str(answer[1]) != str(attempts):
            return wrong("Look at dlq.attempts, and then at dlq.error: would waiting have helped?")
        return right(f"Inventory read it from {topic}, and dead-lettered it after {attempts} attempt.")

    def cleanup(self, bench: Bench) -> str:
        for letter in letters_of(bench, bench.given.key):
            bench.lab.dead_letters.discard(letter.id)
        return "The dead letter is discarded. No order depended on it."


class WhatWaitsBehind(Exercise):
    """An order's later events are parked in order behind the failed one."""

    name = "what-waits-behind"
    title = "Write the SQL that shows what payment has parked for one order, in the order of arrival"
    tip = "The table is parked_records, its key is the order's id, and parking_id counts in the order of arrival."
    answer = '''
        answer = """
            SELECT state, headers ->> 'ce_type' AS type
            FROM parked_records WHERE key = %(order)s ORDER BY parking_id
        """
    '''
    why = (
        "The reservation is dead-lettered, and the cancel waits behind it. Handled out of order, the cancel would "
        "find nothing to refund and leave a tombstone, and the reservation would then be rejected: not wrong here, "
        "but only because every handler was written for it. Records that are parked in order reach the handlers in "
        "their original order."
    )
    mistakes = (
        Wrong(
            "answer = \"SELECT state, headers ->> 'ce_type' AS type FROM parked_records "
            'WHERE key = %(order)s ORDER BY parking_id DESC"',
            "order of arrival",
        ),
        Wrong('answer = "SELECT type FROM inbox"', "parked_records"),
        Wrong('answer = "SELECT state, type FROM parked_records WHERE key = %(order)s"', "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = poison_an_order(bench)
        bench.shop.cancel(order)
        wait_until(
            lambda: len(bench.look.db.rows("payment", PARKED, order=order)) == 2, 20, what="the cancel to be parked"
        )
        return "given.order was cancelled while payment could not handle its event.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            found = bench.look.db.rows("payment", str(answer), order=bench.given.order)
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not {"state", "type"} <= set(found.columns):
            return wrong("Show the columns state and type of parked_records; the type is the header ce_type.")
        truth = bench.look.db.rows("payment", PARKED, order=bench.given.order).values.tolist()
        rows = found[["state", "type"]].values.tolist()
        if rows == truth:
            return right(f"{len(rows)} records: the dead letter, and the record that waits behind it.")
        if Counter(map(tuple, rows)) == Counter(map(tuple, truth)):
            return wrong("These are the rows, but not in the order of arrival: which column counts the arrivals?")
        return wrong("Show the rows of this order only, each once: WHERE key = ...")

    def cleanup(self, bench: Bench) -> str:
        return recover(bench)


class NoTypeAtAll(Exercise):
    """An unknown type is ignored; a missing type is an error."""

    name = "no-type-at-all"
    title = "How many dead letters does a record without a type in order.events cause?"
    tip = (
        "A service ignores a record if it knows that the record is not for it. Can it know that here? And which "
        "services read order.events?"
    )
    answer = "answer = 3"
    why = (
        "Three: inventory, payment and shipping each read order.events, and each dead-letters the record. A service "
        "can ignore an unknown type, because it knows that the type is not one of its own; without a type it can't "
        "know, and it must not silently drop a record that might be its own. The order service does not read its own "
        "topic."
    )
    mistakes = (
        Wrong("answer = 0", "might be its own"),
        Wrong("answer = 1", "Each reader"),
        Wrong("answer = 4", "its own topic"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        key = str(uuid.uuid4())
        send(bench, key, "{}", {"ce_id": str(uuid.uuid4())})
        readers = {"inventory", "payment", "shipping"}
        wait_until(
            lambda: {letter.service for letter in letters_of(bench, key)} >= readers, 20, what="the dead letters"
        )
        found = letters_of(bench, key)
        for letter in found:
            bench.lab.dead_letters.discard(letter.id)
        if answer == len(found):
            return right(
                f"The lab has just sent one: {', '.join(sorted(letter.service for letter in found))} dead-lettered it."
            )
        if answer == 0:
            return wrong(
                "An unknown type is ignored. But how does a service know that a record without a type is not for it? "
                "It might be its own."
            )
        if answer == 4:
            return wrong("Does the order service read its own topic? Check whose events it acts on.")
        return wrong(
            "Each reader of a topic decides separately, and has its own dead letters. How many readers are there?"
        )


class HealIt(Exercise):
    """Repair the cause first, then replay the dead letter."""

    name = "heal-it"
    title = "A dead letter blocks an order: let the order end"
    tip = (
        "First find out why payment can't handle the event, and remove the cause; `lab.faults.active` may show "
        "it. Then "
        "replay the dead letter: it is not retried by itself."
    )
    answer = f"""
        lab.faults.off("payment")
        letter = {DEAD}
        lab.dead_letters.replay(letter.id)
        shop.follow(given.order)
    """
    why = (
        "A dead letter is a task for an operator who can fix the cause. Replayed too early, it fails again after five "
        "more attempts; never replayed, it blocks its order forever. So show the list of dead letters on a dashboard, "
        "with an alert when it is not empty."
    )
    mistakes = (
        Wrong(f"lab.dead_letters.replay({DEAD}.id)", "dead-lettered again"),
        Wrong('lab.faults.off("payment")', "by itself"),
        Wrong(f"lab.dead_letters.discard({DEAD}.id)", "never answer"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "A dead letter in payment blocks given.order.", {"order": poison_an_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        order = bench.given.order
        if letters_of(bench, order):
            if not bench.lab.faults.active.get("payment"):
                return wrong("The cause is gone, but a dead letter is not retried by itself. Which command replays it?")
            if len(bench.look.kafka.records(order, "payment.dlq")) == 1:
                return untouched("The record is dead-lettered, and payment still can't handle it.")
            return wrong(
                "It was retried and dead-lettered again: its cause still exists. What does lab.faults.active show?"
            )
        if not is_handled(bench, order):
            return wrong("The dead letter is gone, and payment will never answer. The order would wait forever.")
        return right(f"Payment has handled it, and the order is {bench.shop.follow(order).status}.")

    def cleanup(self, bench: Bench) -> str:
        return recover(bench)


class DiscardedByMistake(Exercise):
    """A discarded event is lost, but the outbox still contains it."""

    name = "discarded-by-mistake"
    title = "A dead letter was discarded by mistake: let the order end anyway"
    tip = (
        "Inventory's event is still a row in its outbox. In 04 you sent every event of an order again: which service "
        "would handle it now, and which have handled it already?"
    )
    answer = "lab.resend(given.order)"
    why = (
        "Each outbox row of the order was deleted and inserted again with its own id, and Debezium published a record "
        "for each. The inboxes know these ids and skip them; payment's inbox knows all but one, and payment handles "
        "that one now. This is why keeping the outbox rows, and an inbox in every service, help on a bad day."
    )
    mistakes = (
        Wrong("shop.cancel(given.order)", "still has to answer"),
        Wrong("lab.reset()", "gone"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = poison_an_order(bench)
        bench.lab.faults.off("payment")
        for letter in letters_of(bench, order):
            bench.lab.dead_letters.discard(letter.id)
        return "Payment works again, but the dead letter of given.order was discarded.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            order = bench.shop.order(bench.given.order)
        except NotFound:
            return wrong("The order is gone, and all other orders with it. A real shop can't afford that.")

        def was_received_again() -> bool:
            seen = [
                v for v in bench.look.kafka.records(order, "inventory.events") if v.record.type == "InventoryReserved"
            ]
            return len(seen) > 1 or bool(is_handled(bench, order.order_id))

        # Resent events are in flight for a moment.
        if waiting.poll_until(was_received_again, 5):
            return right(f"Payment has handled its event at last, and the order is {bench.shop.follow(order).status}.")
        if order.failure_reason == "cancelled_by_customer":
            return wrong(
                "The order is CANCELLING, and stays so: payment still has to answer to an event that it never handled."
            )
        return untouched("The order has not ended, and payment has not handled its reservation.")

    def cleanup(self, bench: Bench) -> str:
        return recover(bench)


EXERCISES: tuple[Exercise, ...] = (
    HowLongAtMost(),
    ReadTheStory(),
    WhatWaitsBehind(),
    NoTypeAtAll(),
    HealIt(),
    DiscardedByMistake(),
)
