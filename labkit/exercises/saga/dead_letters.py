"""The exercises of notebook 05."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import pandas as pd
from confluent_kafka import Producer

from labkit.errors import NotFound, QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.poison_to_the_side import PoisonToTheSide
from labkit.exercises.building.retry_policy import RetryPolicy
from labkit.waiting import wait_until
from labservices.contract import SERVICES, acts_on
from labstack import waiting
from labstack.consistency.dead_letters import DeadLetter

PARKED = "SELECT state, headers ->> 'ce_type' AS type FROM parked_records WHERE key = %(order)s ORDER BY parking_id"
WAITING = """
    SELECT letter.key, letter.headers ->> 'ce_type' AS type, count(behind.parking_id) AS waiting
    FROM parked_records AS letter
    LEFT JOIN parked_records AS behind ON behind.key = letter.key AND behind.state = 'behind'
    WHERE letter.state = 'dead' GROUP BY letter.parking_id
"""
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


class ReadTheStory(Exercise):
    """The headers of a dead letter contain its history."""

    name = "read-the-story"
    title = "From which topic did a dead letter come, and after how many attempts was it dead-lettered?"
    kind = "diagnosis"
    level = 1
    minutes = 4
    hints = (
        "The dead letter is in inventory.dlq, with the key given.key. The record itself is unchanged; what was added?",
        'look.kafka.records(given.key, "inventory.dlq")[0].headers: those that begin with dlq. tell its history.',
        'It begins:\n    letter = look.kafka.records(given.key, "inventory.dlq")[0]\n    answer = '
        '(letter.headers["dlq.topic"], ...',
    )
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


def listed(table: pd.DataFrame) -> Counter[tuple[str, str, float]]:
    """Return the rows of a list of dead letters: key, type, and the number of records behind the letter."""
    numbers = pd.to_numeric(table.waiting, errors="coerce").fillna(-1)
    return Counter(zip(table.key.map(str), table.type.map(str), numbers.map(float), strict=True))


class WhatWaitsBehind(Exercise):
    """The list for an engineer on call: every dead letter, and how much it blocks."""

    name = "what-waits-behind"
    title = "Write the SQL that shows each dead letter of payment, and how many records wait behind it"
    kind = "query"
    level = 2
    minutes = 10
    hints = (
        "The table parked_records in payment's database has a row for each dead letter (state 'dead') and for each "
        "record behind one (state 'behind'). What do the rows of one order have in common?",
        "Join the table with itself: the dead letters on the left, and on the right the rows of the same key that are "
        "'behind'. A LEFT JOIN keeps a dead letter without any; count(right.column) counts only what was found.",
        "It begins:\n    SELECT letter.key, letter.headers ->> 'ce_type' AS type, count(behind.parking_id) AS waiting\n"
        "    FROM parked_records AS letter LEFT JOIN parked_records AS behind ON ...",
    )
    answer = '''
        answer = """
            SELECT letter.key, letter.headers ->> 'ce_type' AS type, count(behind.parking_id) AS waiting
            FROM parked_records AS letter
            LEFT JOIN parked_records AS behind ON behind.key = letter.key AND behind.state = 'behind'
            WHERE letter.state = 'dead'
            GROUP BY letter.parking_id ORDER BY waiting DESC
        """
    '''
    why = (
        "The reservation is dead-lettered, and the cancel waits behind it. Records that are parked in order reach the "
        "handlers in their original order. The other letter blocks nothing, but it is in the list all the same: an "
        "engineer repairs first what blocks most, and has to see the rest. An inner join would hide it."
    )
    mistakes = (
        Wrong(
            """
            answer = '''
                SELECT letter.key, letter.headers ->> 'ce_type' AS type, count(*) AS waiting
                FROM parked_records AS letter
                JOIN parked_records AS behind ON behind.key = letter.key AND behind.state = 'behind'
                WHERE letter.state = 'dead' GROUP BY letter.parking_id
            '''
            """,
            "behind which nothing waits",
        ),
        Wrong(
            "answer = \"SELECT key, min(headers ->> 'ce_type') AS type, count(*) AS waiting \"\n"
            'answer += "FROM parked_records GROUP BY key"',
            "counts the dead letter itself",
        ),
        Wrong(
            "answer = \"SELECT key, headers ->> 'ce_type' AS type, 0 AS waiting FROM parked_records\"",
            "no dead letter",
        ),
        Wrong(
            "answer = \"SELECT key, headers ->> 'ce_type' AS type, 0 AS waiting \"\n"
            "answer += \"FROM parked_records WHERE state = 'dead'\"",
            "The records behind a letter have its key",
        ),
        Wrong('answer = "SELECT type FROM inbox"', "columns key, type and waiting"),
        Wrong("answer = \"SELECT key, type FROM parked_records WHERE state = 'dead'\"", "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order, other = poison_an_order(bench), str(uuid.uuid4())
        bench.shop.cancel(order)
        unknown = {
            "ce_id": str(uuid.uuid4()),
            "ce_type": "OrderCancelRequested",
            "ce_dataschema": "urn:sagalab:OrderCancelRequested:7.0",
        }
        send(bench, other, "{}", unknown)
        wait_until(lambda: len(bench.look.db.rows("payment", PARKED, order=order)) == 2, 20, what="the parked cancel")
        # Each service that acts on a cancel dead-letters it, and the cleanup must find all of them.
        readers = {service for service in SERVICES if unknown["ce_type"] in acts_on(service)}
        wait_until(
            lambda: {letter.service for letter in letters_of(bench, other)} == readers,
            30,
            what=f"the other dead letter in {', '.join(sorted(readers))}",
        )
        return (
            "Payment has two dead letters. The order of one of them, given.order, was cancelled meanwhile.",
            {"order": order, "other": other},
        )

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            found = bench.look.db.rows("payment", str(answer))
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        if not {"key", "type", "waiting"} <= set(found.columns):
            return wrong("Show the columns key, type and waiting; the type is the header ce_type of the dead letter.")
        rows, truth = listed(found), listed(bench.look.db.rows("payment", WAITING))
        if not truth:
            return untouched("Payment has no dead letter any more: run the setup again.")
        if rows == truth:
            blocked = sum(waiting for _, _, waiting in truth)
            return right(f"{len(truth)} dead letters. Records that wait behind them: {blocked:.0f}.")
        letters = {(key, kind) for key, kind, _ in truth}
        if set(rows) < set(truth) and not any(waiting for _, _, waiting in set(truth) - set(rows)):
            return wrong(
                "A dead letter behind which nothing waits is missing. It is in no list then, and it stays unrepaired: "
                "which join keeps a row without a partner?"
            )
        if {(key, kind) for key, kind, _ in rows} - letters:
            return wrong("A row of your list is no dead letter: a record that only waits has the state 'behind'.")
        if rows == Counter((key, kind, waiting + 1) for key, kind, waiting in truth):
            return wrong("Every number is too large by one: your count counts the dead letter itself.")
        return wrong(
            "These are the dead letters, each once, but not what waits. The records behind a letter have its key, and "
            "the state 'behind'."
            if {(key, kind) for key, kind, _ in rows} == letters and rows.total() == len(letters)
            else "Show each dead letter once."
        )

    def cleanup(self, bench: Bench) -> str:
        for letter in letters_of(bench, bench.given.other):
            bench.lab.dead_letters.discard(letter.id)
        return recover(bench)


class HealIt(Exercise):
    """Repair the cause first, then replay the dead letter."""

    name = "heal-it"
    title = "A dead letter blocks an order: let the order end"
    kind = "operation"
    level = 2
    minutes = 4
    hints = (
        "Why can't payment handle the event? lab.faults.active shows what the setup has switched on.",
        "First the cause, then the record: lab.faults.off(service), then lab.dead_letters.replay(id); "
        "lab.dead_letters.all() has the ids.",
        'It begins:\n    lab.faults.off("payment")\n    letter = next(one for one in lab.dead_letters.all() if ...',
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
    kind = "operation"
    level = 2
    minutes = 7
    hints = (
        "The dead letter is gone, but it was a copy. Where is the event's original?",
        "Inventory's row is still in its outbox. In 04 you sent every event of an order again; the services' "
        "inboxes stop what they know.",
        "It begins:\n    lab.resend(...",
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
    RetryPolicy(),
    ReadTheStory(),
    WhatWaitsBehind(),
    PoisonToTheSide(),
    HealIt(),
    DiscardedByMistake(),
)
