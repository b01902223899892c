"""An outbox write with SQLAlchemy."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import Function, Rejected, TablesExercise, call
from labstack.clients import databases

GIFTS = """
    CREATE TABLE gifts.notes (order_id uuid NOT NULL, note text NOT NULL CHECK (length(note) <= 40));
"""


class WriteBoth(TablesExercise):
    """The business row and its event are in one transaction."""

    name = "write-both"
    title = "Write a row and its event with SQLAlchemy: both or neither"
    level = 2
    minutes = 12
    functions = ("add_note(engine, order_id, note)",)
    service, schema, tables = "order", "gifts", GIFTS
    description = "gifts.notes (order_id, note) is in the order service's database; a note has at most 40 characters."
    hints = (
        "How many transactions does your function need, and what commits one in SQLAlchemy 2? Which column of the "
        "outbox becomes the key of the record?",
        '`with engine.begin() as connection:` is one transaction. connection.execute(text("INSERT ... VALUES (:id, '
        '...)"), '
        "{...}), twice; CAST(:payload AS jsonb) takes the text of json.dumps.",
        "It begins:\n    with engine.begin() as connection:\n        connection.execute(text("
        '"INSERT INTO gifts.notes VALUES (:order_id, :note)"), {"order_id": order_id, "note": note})',
    )
    answer = '''
        import json
        from uuid import uuid4
        from sqlalchemy import text

        def add_note(engine, order_id, note):
            payload = {"order_id": order_id, "note": note}
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"), payload)
                connection.execute(text("""
                    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                    VALUES (:id, 'order', :order_id, 'NoteAdded', CAST(:payload AS jsonb),
                            'urn:sagalab:NoteAdded:1.0', 'urn:sagalab:gifts')"""),
                    {"id": uuid4(), "order_id": order_id, "payload": json.dumps(payload)})

        answer = add_note
    '''
    why = (
        "One transaction, two INSERTs: PostgreSQL commits both or neither, and Debezium publishes only what is "
        "committed. No call to Kafka, and no try/except around it. labservices/messaging/outbox.py does the same."
    )
    mistakes = (
        Wrong(
            '''
            import json
            from uuid import uuid4
            from sqlalchemy import text

            def add_note(engine, order_id, note):
                payload = {"order_id": order_id, "note": note}
                with engine.begin() as connection:
                    connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"), payload)
                with engine.begin() as connection:
                    connection.execute(text("""
                        INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                        VALUES (:id, 'order', :order_id, 'NoteAdded', CAST(:payload AS jsonb),
                                'urn:sagalab:NoteAdded:1.0', 'urn:sagalab:gifts')"""),
                        {"id": uuid4(), "order_id": order_id, "payload": json.dumps(payload)})

            answer = add_note
            ''',
            "learn of it",
        ),
        Wrong(
            '''
            import json
            from uuid import uuid4
            from sqlalchemy import text

            def add_note(engine, order_id, note):
                payload = {"order_id": order_id, "note": note}
                with engine.begin() as connection:
                    connection.execute(text("""
                        INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                        VALUES (:id, 'order', :order_id, 'NoteAdded', CAST(:payload AS jsonb),
                                'urn:sagalab:NoteAdded:1.0', 'urn:sagalab:gifts')"""),
                        {"id": uuid4(), "order_id": order_id, "payload": json.dumps(payload)})
                with engine.begin() as connection:
                    connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"), payload)

            answer = add_note
            ''',
            "never existed",
        ),
        Wrong(
            """
            from sqlalchemy import text

            def add_note(engine, order_id, note):
                with engine.connect() as connection:
                    connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"),
                                       {"order_id": order_id, "note": note})

            answer = add_note
            """,
            "commit",
        ),
        Wrong(
            '''
            import json
            from uuid import uuid4
            from sqlalchemy import text

            def add_note(engine, order_id, note):
                payload = {"order_id": order_id, "note": note}
                with engine.begin() as connection:
                    connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"), payload)
                    connection.execute(text("""
                        INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                        VALUES (:id, 'order', :key, 'NoteAdded', CAST(:payload AS jsonb),
                                'urn:sagalab:NoteAdded:1.0', 'urn:sagalab:gifts')"""),
                        {"id": uuid4(), "key": uuid4(), "payload": json.dumps(payload)})

            answer = add_note
            ''',
            "another key",
        ),
        Wrong(
            '''
            import json
            from uuid import uuid4
            from sqlalchemy import text

            def add_note(engine, order_id, note):
                payload = {"order_id": order_id, "note": note}
                with engine.begin() as connection:
                    connection.execute(text("INSERT INTO gifts.notes VALUES (:order_id, :note)"), payload)
                    connection.execute(text("""
                        INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                        VALUES (:id, 'order', :order_id, 'NoteAdded', to_jsonb(CAST(:payload AS text)),
                                'urn:sagalab:NoteAdded:1.0', 'urn:sagalab:gifts')"""),
                        {"id": uuid4(), "order_id": order_id, "payload": json.dumps(payload)})

            answer = add_note
            ''',
            "JSON in a JSON string",
        ),
    )

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (add_note,) = functions
        self.create_tables(bench)
        order, rejected = str(uuid.uuid4()), str(uuid.uuid4())
        since = bench.look.db.rows("order", "SELECT clock_timestamp()::text AS now").now.item()
        engine = databases.engine(bench.lab.endpoints.databases["order"])
        try:
            self._add(add_note, engine, order, "For Grace, with love", when="For a note of 20 characters")
            self._judge_first(bench, order, since)
            with suppress(Exception):
                add_note(engine, rejected, "x" * 41)
            if self._events(bench, rejected):
                raise Rejected(
                    "A note was too long, PostgreSQL rejected its row, and the event is in the outbox: the label "
                    "printer prints a note that never existed."
                )
            with suppress(Exception):
                add_note(engine, order, "A second note")
            if self._notes(bench, order) > 1:
                raise Rejected(
                    "PostgreSQL rejected an outbox row (in this lab an order has each event once), and the note is "
                    "committed: the other services will never learn of it."
                )
        finally:
            engine.dispose()
        record = bench.look.kafka.record(order, "NoteAdded").record
        return right(
            f"A record NoteAdded is in {record.topic} with the order as its key; two failures left nothing behind."
        )

    def _add(self, add_note: Function, engine: Engine, order: str, note: str, *, when: str) -> None:
        try:
            call(add_note, engine, order, note, when=when)
        except Rejected as rejected:
            if "payload" in str(rejected) and "check constraint" in str(rejected):
                raise Rejected(
                    "The payload is JSON in a JSON string, encoded twice: every consumer would have to decode it "
                    "twice. This lab's table rejects it (jsonb_typeof(payload) = 'object')."
                ) from rejected
            raise

    def _judge_first(self, bench: Bench, order: str, since: str) -> None:
        if not self._notes(bench, order):
            raise Rejected("gifts.notes has no row with the order's id. Did the transaction commit?")
        events = self._events(bench, order)
        if not events:
            query = "SELECT 1 FROM outbox WHERE type = 'NoteAdded' AND created_at > %(since)s::timestamptz"
            if len(bench.look.db.rows("order", query, since=since)):
                raise Rejected(
                    "The event has another key than its order: it goes to another partition, and can overtake the "
                    "order's other events. Which column becomes the key?"
                )
            raise Rejected("The note is committed, and the outbox has no row NoteAdded for this order.")
        if events != [("NoteAdded", "For Grace, with love")]:
            raise Rejected(
                f"The outbox row has the type {events[0][0]} and the note {events[0][1]!r} in its payload; it should "
                "be NoteAdded, with order_id and note."
            )

    def _notes(self, bench: Bench, order: str) -> int:
        return len(bench.look.db.rows("order", "SELECT 1 FROM gifts.notes WHERE order_id = %(order)s", order=order))

    def _events(self, bench: Bench, order: str) -> list[tuple[str, str]]:
        query = "SELECT type, payload ->> 'note' AS note FROM outbox WHERE aggregateid = %(order)s"
        return list(bench.look.db.rows("order", query, order=order).itertuples(index=False, name=None))
