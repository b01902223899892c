"""A handler with an inbox."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import Function, Rejected, TablesExercise, at_once, in_transaction

STAMPS = """
    CREATE TABLE stamps.inbox (event_id uuid PRIMARY KEY);
    CREATE TABLE stamps.cards (customer_id text PRIMARY KEY, stamps int NOT NULL CHECK (stamps <= 10));
    INSERT INTO stamps.cards VALUES ('ada', 0), ('grace', 0), ('hedy', 10);
"""


class WriteTheInbox(TablesExercise):
    """The inbox row and the effect are in one transaction."""

    name = "write-the-inbox"
    title = "Write a handler with an inbox: one stamp for each event, however often it arrives"
    level = 2
    minutes = 6
    functions = ("add_stamp(db, event)",)
    service, schema, tables = "payment", "stamps", STAMPS
    description = (
        "In payment's database: stamps.inbox (event_id, primary key) and stamps.cards (customer_id, stamps).\n"
        "ada and grace have 0 stamps; hedy has 10, and a card has no room for more."
    )
    hints = (
        "Whether the event is new must be known before its effect, and be stored with it: one transaction, which the "
        "caller commits.",
        "INSERT INTO stamps.inbox ... ON CONFLICT DO NOTHING; the cursor's rowcount is 1 if the event is new, and 0 if "
        "it is a duplicate. Then UPDATE stamps.cards.",
        'It begins:\n    new = db.execute("INSERT INTO stamps.inbox VALUES (%s) ON CONFLICT DO NOTHING", '
        '[event["event_id"]])',
    )
    answer = """
        def add_stamp(db, event):
            new = db.execute("INSERT INTO stamps.inbox VALUES (%s) ON CONFLICT DO NOTHING", [event["event_id"]])
            if new.rowcount == 0:
                return
            db.execute("UPDATE stamps.cards SET stamps = stamps + 1 WHERE customer_id = %s", [event["customer_id"]])

        answer = add_stamp
    """
    why = (
        "The primary key decides, not a SELECT: of two transactions with the same id the second waits for the "
        "first, and then finds the row. And both writes commit together: an effect that fails takes its inbox row "
        "back, so that the retry is new again. labservices/messaging/inbox.py does the same."
    )
    mistakes = (
        Wrong(
            """
            def add_stamp(db, event):
                db.execute("UPDATE stamps.cards SET stamps = stamps + 1 WHERE customer_id = %s", [event["customer_id"]])

            answer = add_stamp
            """,
            "2 stamps for one order",
        ),
        Wrong(
            """
            def add_stamp(db, event):
                db.execute("INSERT INTO stamps.inbox VALUES (%s) ON CONFLICT DO NOTHING", [event["event_id"]])
                db.execute("UPDATE stamps.cards SET stamps = stamps + 1 WHERE customer_id = %s", [event["customer_id"]])

            answer = add_stamp
            """,
            "2 stamps for one order",
        ),
        Wrong(
            """
            def add_stamp(db, event):
                new = db.execute("INSERT INTO stamps.inbox VALUES (%s) ON CONFLICT DO NOTHING", [event["event_id"]])
                db.commit()
                if new.rowcount:
                    db.execute("UPDATE stamps.cards SET stamps = stamps + 1 WHERE customer_id = %s",
                               [event["customer_id"]])

            answer = add_stamp
            """,
            "taken for a duplicate",
        ),
        Wrong(
            """
            def add_stamp(db, event):
                seen = db.execute("SELECT 1 FROM stamps.inbox WHERE event_id = %s", [event["event_id"]]).fetchone()
                if seen:
                    return
                db.execute("UPDATE stamps.cards SET stamps = stamps + 1 WHERE customer_id = %s", [event["customer_id"]])
                db.execute("INSERT INTO stamps.inbox VALUES (%s) ON CONFLICT DO NOTHING", [event["event_id"]])

            answer = add_stamp
            """,
            "at the same time",
        ),
    )

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (add_stamp,) = functions
        self.create_tables(bench)
        one, two = _stamp_event("ada"), _stamp_event("ada")
        with bench.look.db.connect("payment") as db:
            in_transaction(db, add_stamp, one, when="For the first event")
            if self._stamps(db, "ada") != 1:
                raise Rejected(f"After her first event, ada has {self._stamps(db, 'ada')} stamps instead of 1.")
            in_transaction(db, add_stamp, one, when="For the same event again")
            if self._stamps(db, "ada") != 1:
                raise Rejected("The relay repeated an event, and ada has 2 stamps for one order.")
            in_transaction(db, add_stamp, two, when="For another event of ada's")
            if self._stamps(db, "ada") != 2:
                raise Rejected("Another order of ada's was taken for a duplicate: she misses a stamp.")
        self._let_the_effect_fail(bench, add_stamp)
        at_once(bench, "payment", add_stamp, _stamp_event("grace"))
        with bench.look.db.connect("payment") as db:
            if (stamps := self._stamps(db, "grace")) != 1:
                raise Rejected(
                    f"Two consumers received the same event at the same time (a rebalance), and grace has {stamps} "
                    "stamps: both looked into the inbox before one of them had committed."
                )
        return right("Once, although it came twice, came twice at the same time, and failed once in between.")

    def _let_the_effect_fail(self, bench: Bench, add_stamp: Function) -> None:
        event = _stamp_event("hedy")
        db = bench.look.db.connect("payment")
        try:
            add_stamp(db, event)
            db.commit()
        except Exception:
            db.rollback()
        else:
            raise Rejected(
                "hedy's card was full, PostgreSQL rejected the UPDATE, and your function hides that: the caller "
                "commits the offset, and the stamp is lost."
            )
        finally:
            db.close()
        with bench.look.db.connect("payment") as db:
            seen = db.execute("SELECT FROM stamps.inbox WHERE event_id = %s", [event["event_id"]]).fetchone()
        if seen is not None:
            raise Rejected(
                "hedy's card was full and the UPDATE failed, but her event is in the inbox already: the retry is "
                "taken for a duplicate, and the stamp is lost. What has committed the inbox row before the effect?"
            )

    def _stamps(self, db: psycopg.Connection[Any], customer: str) -> int:
        row = db.execute("SELECT stamps FROM stamps.cards WHERE customer_id = %s", [customer]).fetchone()
        return int(row[0]) if row else 0


def _stamp_event(customer: str) -> dict[str, str]:
    return {"event_id": str(uuid.uuid4()), "customer_id": customer}
