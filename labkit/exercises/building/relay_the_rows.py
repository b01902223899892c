"""A relay from an outbox to Kafka."""

from __future__ import annotations

from typing import Any

import psycopg
from confluent_kafka import Producer

from labkit.client.practice import Practice
from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.building.trial import TOO_SMALL
from labkit.exercises.own_code import Rejected, TablesExercise, call
from labstack.clients import practice
from labstack.clients.broker import FAST_RECONNECT, Record

# The first row is updated, so that a query without ORDER BY returns it last.
LETTERS = """
    CREATE TABLE letters.outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL, payload text NOT NULL, sent_at
        timestamptz);
    INSERT INTO letters.outbox (key, payload) VALUES ('order-1', '?'), ('order-1', 'paid'), ('order-1', 'cancelled');
    UPDATE letters.outbox SET payload = 'created' WHERE payload = '?';
"""


class RelayTheRows(TablesExercise):
    """A relay marks a row as sent only after the broker has acknowledged it."""

    name = "relay-the-rows"
    title = "Write the relay: from the rows of an outbox to Kafka, without Debezium"
    level = 3
    minutes = 15
    functions = ("relay(db, producer, topic)",)
    service, schema, tables = "order", "letters", LETTERS
    description = "letters.outbox (id, key, payload, sent_at) is in the order service's database, with three rows."
    hints = (
        "Two systems again: Kafka and the table. Which of the two may be written first, so that a crash in between "
        "sends a row twice, but never loses it?",
        "SELECT ... WHERE sent_at IS NULL ORDER BY id; producer.produce(topic, payload, key, on_delivery=...); "
        "flush(); then UPDATE only the rows whose delivery report has no error.",
        "It begins:\n    rows = db.execute("
        '"SELECT id, key, payload FROM letters.outbox WHERE sent_at IS NULL ORDER BY id").fetchall()',
    )
    answer = """
        def relay(db, producer, topic):
            rows = db.execute(
                "SELECT id, key, payload FROM letters.outbox WHERE sent_at IS NULL ORDER BY id").fetchall()
            sent = []
            for number, key, payload in rows:
                def on_delivery(error, message, number=number):
                    if error is None:
                        sent.append(number)
                producer.produce(topic, payload, key, on_delivery=on_delivery)
            producer.flush(10)
            db.execute("UPDATE letters.outbox SET sent_at = now() WHERE id = ANY(%s)", [sent])

        answer = relay
    """
    why = (
        "Send, wait for the acknowledgement, mark: a crash before the mark sends the row again, and the readers' "
        "inboxes recognise it. This is the polling publisher, a real alternative to Debezium: no slot and no "
        "Connect, but a query each second, and it must not overtake transactions that commit late (notebook 11). "
        "With more than one instance it needs a lock: FOR UPDATE SKIP LOCKED spreads the rows, at the price of "
        "their order."
    )
    mistakes = (
        Wrong(
            '''
            def relay(db, producer, topic):
                rows = db.execute("""
                    UPDATE letters.outbox SET sent_at = now() WHERE sent_at IS NULL
                    RETURNING id, key, payload""").fetchall()
                for number, key, payload in sorted(rows):
                    producer.produce(topic, payload, key)
                producer.flush(10)

            answer = relay
            ''',
            "marked as sent",
        ),
        Wrong(
            """
            def relay(db, producer, topic):
                rows = db.execute("SELECT id, payload FROM letters.outbox WHERE sent_at IS NULL ORDER BY id").fetchall()
                for number, payload in rows:
                    producer.produce(topic, payload)
                producer.flush(10)
                db.execute("UPDATE letters.outbox SET sent_at = now()")

            answer = relay
            """,
            "key",
        ),
        Wrong(
            """
            def relay(db, producer, topic):
                for number, key, payload in db.execute("SELECT id, key, payload FROM letters.outbox").fetchall():
                    producer.produce(topic, payload, key)
                    producer.flush(10)
                    db.execute("UPDATE letters.outbox SET sent_at = now() WHERE id = %s", [number])

            answer = relay
            """,
            "in the order",
        ),
        Wrong(
            """
            def relay(db, producer, topic):
                rows = db.execute("SELECT key, payload FROM letters.outbox WHERE sent_at IS NULL ORDER BY id")
                for key, payload in rows.fetchall():
                    producer.produce(topic, payload, key)
                producer.flush(10)

            answer = relay
            """,
            "each pass",
        ),
    )

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (relay,) = functions
        shop = Practice(bench.lab)
        topic, refusing = shop.topic(partitions=1), practice.make_topic(shop.kafka, 1, settings=TOO_SMALL)
        producer = Producer({"bootstrap.servers": shop.kafka, **FAST_RECONNECT})
        self.create_tables(bench)
        try:
            with bench.look.db.connect("order") as db:
                call(relay, db, producer, topic, when="With three unsent rows")
                producer.flush(10)
                self._judge(shop.read(topic))
                if self._marked(db) < 3:
                    raise Rejected(
                        "Three records are in Kafka, but not all rows are marked: each pass sends them again."
                    )
                call(relay, db, producer, topic, when="With no unsent row")
                producer.flush(10)
            if len(shop.read(topic)) > 3:
                raise Rejected("A second pass sent the rows again, although they were marked.")
            self.create_tables(bench)
            with bench.look.db.connect("order") as db:
                try:
                    relay(db, producer, refusing)
                except Exception:
                    db.rollback()  # as the caller does; an error is a good answer to a refusal
                marked = self._marked(db)
                db.rollback()
                if marked:
                    raise Rejected(
                        f"The broker refused every record, and {marked} of 3 rows are marked as sent: their events are "
                        "lost, and no later pass will find them. The delivery report says what the broker has answered."
                    )
        finally:
            shop.remove(topic)
            shop.remove(refusing)
        return right("Three rows, three records, in order; and what the broker refused waits for the next pass.")

    def _judge(self, records: list[Record]) -> None:
        values = [(record.value or b"").decode() for record in records]
        if len(values) < 3:
            raise Rejected(f"Three rows, but {len(values)} records in the topic.")
        if [record.key for record in records] != ["order-1"] * 3:
            raise Rejected(
                "The records lack the key of their rows: in a topic of four partitions, the events of one order would "
                "overtake each other."
            )
        if values != ["created", "paid", "cancelled"]:
            raise Rejected(
                f"Sent as {', '.join(values)}: not in the order of id. Without ORDER BY, rows have no order."
            )

    def _marked(self, db: psycopg.Connection[Any]) -> int:
        return len(db.execute("SELECT FROM letters.outbox WHERE sent_at IS NOT NULL").fetchall())
