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
from labservices.messaging import parking
from labstack import waiting
from labstack.consistency.dead_letters import DeadLetter

QUEUE = "SELECT state, headers ->> 'ce_type' AS type FROM parked_records WHERE key = %(order)s ORDER BY parking_id"
DEAD = "next(letter for letter in lab.dead_letters() if letter.order_id == given.order)"


def send(bench: Bench, key: str, value: str, headers: Mapping[str, str]) -> None:
    """Send a record to order.events directly, as no service does."""
    producer = Producer({"bootstrap.servers": bench.lab.endpoints.kafka})
    producer.produce("order.events", value, key, headers={**headers})
    producer.flush(10)


def letters_of(bench: Bench, key: str, service: str | None = None) -> list[DeadLetter]:
    """Return the dead letters with a key."""
    return [
        letter for letter in bench.lab.dead_letters() if letter.order_id == key and service in (None, letter.service)
    ]


def poison_an_order(bench: Bench) -> str:
    """Make payment fail on the next event, place an order, and return its id once it hangs on the dead letter."""
    heal(bench)
    bench.lab.check(wait_for_rest=15)  # so that the next event is this order's
    bench.lab.switch_on("payment", "poison-next")
    order = bench.shop.place_order("grace", "vienna", {"chamomile": 1})
    wait_until(lambda: letters_of(bench, order.order_id), 30, what="the dead letter")
    return order.order_id


def heal(bench: Bench) -> None:
    """Switch the fault off, and replay payment's dead letters."""
    bench.lab.switch_off("payment")
    for letter in bench.lab.dead_letters():
        if letter.service == "payment":
            bench.lab.replay(letter.id)


def heard(bench: Bench, order: str) -> bool:
    """Return whether payment has handled the order's InventoryReserved."""
    event = bench.look.record(order, "InventoryReserved").record.headers["ce_id"]
    query = "SELECT event_id FROM inbox WHERE event_id = %(event)s"
    return len(bench.look.sql("payment", query, event=event)) == 1


def let_it_end(bench: Bench) -> str:
    """Heal payment, and wait until the order ends, whatever happened to it."""
    heal(bench)
    with suppress(NotFound):
        if not heard(bench, bench.shop.order(bench.given.order).order_id):
            bench.lab.resend(bench.given.order)
        bench.shop.follow(bench.given.order)
    return "Payment handles everything again, and no dead letter holds the order."


class HowLongAtMost(Exercise):
    """Exponential backoff with jitter."""

    name = "how-long-at-most"
    title = "At most how many seconds pass between the first attempt and the fifth?"
    tip = "Between five attempts there are four waits. Each is twice the one before, and chance may add half of it."
    answer = "answer = 1.5 * (0.2 + 0.4 + 0.8 + 1.6)"
    why = (
        "At most 4.5 s, and at least 1.5 s. Doubling gives a cause that passes (a lock, a restart) more and more time "
        "and costs little; the chance in it keeps a thousand records that failed at the same moment from coming back "
        "at the same moment. After the fifth attempt nobody waits any more: the record is given up."
    )
    mistakes = (
        Wrong("answer = 0.2 + 0.4 + 0.8 + 1.6", "chance"),
        Wrong("answer = 1.5 * (0.2 + 0.4 + 0.8 + 1.6 + 3.2)", "four waits"),
        Wrong("answer = 5 * 0.2", "twice"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        waits = [min(parking.RETRY_FIRST * 2.0**n, parking.RETRY_MOST) for n in range(parking.MAX_ATTEMPTS)]
        if not isinstance(answer, int | float):
            return wrong("The answer is a number of seconds.")
        if abs(answer - 1.5 * sum(waits[:-1])) < 0.01:
            return right("Four waits, each at its longest.")
        if abs(answer - sum(waits[:-1])) < 0.01:
            return wrong("That is their sum without chance. Each wait may be half as long again.")
        if abs(answer - 1.5 * sum(waits)) < 0.01:
            return wrong("You counted a wait behind the last attempt. Five attempts have four waits between them.")
        return wrong("Each wait is about twice the one before: 0.2, 0.4, … Add them up, each at its longest.")


class ReadTheStory(Exercise):
    """The headers of a dead letter contain its history."""

    name = "read-the-story"
    title = "From which topic did a dead letter come, and after how many attempts was it given up?"
    tip = "look.records(given.key, 'inventory.dlq') has it. Its own story stands in the headers that begin with dlq."
    answer = """
        letter = look.records(given.key, "inventory.dlq")[0]
        answer = (letter.headers["dlq.topic"], int(letter.headers["dlq.attempts"]))
    """
    why = (
        "It came from order.events and was given up at once: its schema has the major version 7, of which nobody here "
        "knows what its fields mean, and waiting won't teach them. The record itself is untouched, and the headers "
        "say where it came from, so that whoever is called at night needs no log to begin with."
    )
    mistakes = (
        Wrong('answer = ("inventory.dlq", 1)', "lies now"),
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
        (letter,) = bench.look.take(1, bench.given.key, "inventory.dlq")
        topic, attempts = letter.headers["dlq.topic"], int(letter.headers["dlq.attempts"] or 0)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            return wrong("The answer is a pair: (topic, attempts).")
        if answer[0] != topic:
            if answer[0] == "inventory.dlq":
                return wrong("That is where it lies now. Where did inventory read it? One of its headers says so.")
            return wrong("Inventory read it from another topic. Its header dlq.topic says from which.")
        if str(answer[1]) != str(attempts):
            return wrong("Look at dlq.attempts, and then at dlq.error: would waiting have helped?")
        return right(f"Inventory read it from {topic}, and gave it up after {attempts} attempt.")

    def cleanup(self, bench: Bench) -> str:
        for letter in letters_of(bench, bench.given.key):
            bench.lab.discard(letter.id)
        return "The dead letter is discarded. Nobody waited for it."


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
        "The reservation is dead, and the cancel waits behind it. Out of turn, the cancel would find nothing to refund "
        "and leave a tombstone, and the reservation would then be refused: not wrong here, but only since every "
        "handler was written for it. Parked in order, handlers see what they would have seen."
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
        wait_until(lambda: len(bench.look.sql("payment", QUEUE, order=order)) == 2, 20, what="the cancel to be parked")
        return "given.order was cancelled while payment could not handle it.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            found = bench.look.sql("payment", str(answer), order=bench.given.order)
        except QueryFailed as error:
            return wrong(f"PostgreSQL does not take it: {error.problem}")
        if not {"state", "type"} <= set(found.columns):
            return wrong("Show the columns state and type of parked_records; the type is the header ce_type.")
        truth = bench.look.sql("payment", QUEUE, order=bench.given.order).values.tolist()
        rows = found[["state", "type"]].values.tolist()
        if rows == truth:
            return right(f"{len(rows)} records: the one that is dead, and the one that waits for it.")
        if Counter(map(tuple, rows)) == Counter(map(tuple, truth)):
            return wrong("These are the rows, but not in the order of arrival: which column counts in that order?")
        return wrong("Show the rows of this order only, each once: WHERE key = ...")

    def cleanup(self, bench: Bench) -> str:
        return let_it_end(bench)


class NoTypeAtAll(Exercise):
    """An unknown type is ignored; a missing type is an error."""

    name = "no-type-at-all"
    title = "How many dead letters come of a record in order.events that names no type?"
    tip = "A service ignores what it knows not to be its own. Can it know that here? And who reads order.events?"
    answer = "answer = 3"
    why = (
        "Three: inventory, payment and shipping each read order.events, and each gives the record up. A type that is "
        "unknown can be ignored, since it is known to be none of the service's own; without a type nobody can tell, "
        "and what might be one's own must not be dropped in silence. The order service doesn't read what it writes."
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
        wait_until(lambda: {letter.service for letter in letters_of(bench, key)} >= readers, 20, what="the letters")
        found = letters_of(bench, key)
        for letter in found:
            bench.lab.discard(letter.id)
        if answer == len(found):
            return right(f"It was just sent: {', '.join(sorted(letter.service for letter in found))} gave it up.")
        if answer == 0:
            return wrong(
                "An unknown type is ignored. But of a record without one, how does a service know that it isn't "
                "meant? It might be its own."
            )
        if answer == 4:
            return wrong("Does the order service read its own topic? Look at whose events it acts upon.")
        return wrong("Each reader of a topic decides for itself, and keeps its own dead letters. How many readers?")


class HealIt(Exercise):
    """Repair the cause first, then replay the dead letter."""

    name = "heal-it"
    title = "An order hangs on a dead letter: let it come to its end"
    tip = (
        "First find out why payment can't handle it, and take the cause away; `lab.switches` may tell. Then the "
        "letter has to be sent back: nobody tries it by itself."
    )
    answer = f"""
        lab.switch_off("payment")
        letter = {DEAD}
        lab.replay(letter.id)
        shop.follow(given.order)
    """
    why = (
        "A dead letter is a promise to somebody who can repair things. Sent back too early it only dies again, with "
        "five more attempts; never sent back, it holds its order for ever. So the list of dead letters belongs on a "
        "dashboard, with an alarm when it isn't empty."
    )
    mistakes = (
        Wrong(f"lab.replay({DEAD}.id)", "dead again"),
        Wrong('lab.switch_off("payment")', "by itself"),
        Wrong(f"lab.discard({DEAD}.id)", "never answer"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "given.order hangs on a dead letter in payment.", {"order": poison_an_order(bench)}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        order = bench.given.order
        if letters_of(bench, order):
            if not bench.lab.switches.get("payment"):
                return wrong(
                    "The cause is gone, but a dead letter is not tried again by itself. Which verb sends it back?"
                )
            if len(bench.look.records(order, "payment.dlq")) == 1:
                return untouched("The letter is dead, and payment still can't handle it.")
            return wrong("It was tried and is dead again: its cause is still there. What does lab.switches say?")
        if not heard(bench, order):
            return wrong("The letter is gone, and payment will never answer. Whoever waits for that waits for ever.")
        return right(f"Payment has handled it, and the order is {bench.shop.follow(order).status}.")

    def cleanup(self, bench: Bench) -> str:
        return let_it_end(bench)


class DiscardedByMistake(Exercise):
    """A discarded event is lost, but the outbox still contains it."""

    name = "discarded-by-mistake"
    title = "Somebody has discarded the dead letter: let the order come to its end all the same"
    tip = (
        "What inventory said stands as a row in its outbox still. In 04 you let every event of an order come once "
        "more: who would handle it now, and who has done so already?"
    )
    answer = "lab.resend(given.order)"
    why = (
        "Each outbox row of the order was deleted and inserted again with its own id, and Debezium made a record of "
        "each. Everybody's inbox knows these ids and lets them pass by; payment's knows all but one, and that one is "
        "handled now. This is what an outbox that is kept, and an inbox everywhere, are good for on a bad day."
    )
    mistakes = (
        Wrong("shop.cancel(given.order)", "still owes"),
        Wrong("lab.reset()", "gone"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        order = poison_an_order(bench)
        bench.lab.switch_off("payment")
        for letter in letters_of(bench, order):
            bench.lab.discard(letter.id)
        return "Payment works again, but the dead letter of given.order was discarded.", {"order": order}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            order = bench.shop.order(bench.given.order)
        except NotFound:
            return wrong("The order is gone, and every other one with it. Your shop can't afford that every time.")

        def came_again() -> bool:
            seen = [v for v in bench.look.records(order, "inventory.events") if v.record.type == "InventoryReserved"]
            return len(seen) > 1 or bool(heard(bench, order.order_id))

        # Resent events are in flight for a moment.
        if waiting.wait_until(came_again, 5):
            return right(f"Payment has heard of it at last, and the order is {bench.shop.follow(order).status}.")
        if order.failure_reason == "cancelled_by_customer":
            return wrong("Now it is CANCELLING, and stays so: payment still owes an answer to what it never heard.")
        return untouched("The order has not ended, and payment has not heard of its reservation.")

    def cleanup(self, bench: Bench) -> str:
        return let_it_end(bench)


EXERCISES: tuple[Exercise, ...] = (
    HowLongAtMost(),
    ReadTheStory(),
    WhatWaitsBehind(),
    NoTypeAtAll(),
    HealIt(),
    DiscardedByMistake(),
)
