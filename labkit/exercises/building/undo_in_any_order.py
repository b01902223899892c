"""A step and its compensation."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import Function, Rejected, TablesExercise, call

SHELF = """
    CREATE TABLE shelf.stock (sku text PRIMARY KEY, on_hand int NOT NULL, reserved int NOT NULL);
    CREATE TABLE shelf.reservations (
        order_id text PRIMARY KEY, sku text NOT NULL, quantity int NOT NULL, status text NOT NULL);
    INSERT INTO shelf.stock VALUES ('sencha', 100, 0);
"""


class UndoInAnyOrder(TablesExercise):
    """A compensation works before, after and without the step that it undoes."""

    name = "undo-in-any-order"
    title = "Write a step and its compensation, for every order of arrival"
    level = 3
    minutes = 18
    functions = ("on_created(db, event)", "on_cancelled(db, event)")
    service, schema, tables = "inventory", "shelf", SHELF
    description = (
        "In inventory's database: shelf.stock (sku, on_hand, reserved), with 100 packs of sencha, and\n"
        "shelf.reservations (order_id, primary key; sku; quantity; status)."
    )
    hints = (
        "Write down what each handler finds if it comes first, second, or twice. What must on_cancelled leave "
        "behind, so that an on_created that comes later does nothing?",
        "Both insert the order's row with ON CONFLICT DO NOTHING: RESERVED, or CANCELLED as the tombstone. The "
        "cursor's rowcount tells whether the row is new. UPDATE ... WHERE status = 'RESERVED' changes it only once.",
        "It begins, in on_created:\n    new = db.execute("
        "\"INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'RESERVED') "
        'ON CONFLICT DO NOTHING", event)',
    )
    answer = '''
        def on_created(db, event):
            new = db.execute("""
                INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'RESERVED')
                ON CONFLICT DO NOTHING""", event)
            if new.rowcount:
                db.execute("UPDATE shelf.stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s", event)

        def on_cancelled(db, event):
            tombstone = db.execute("""
                INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'CANCELLED')
                ON CONFLICT DO NOTHING""", event)
            if tombstone.rowcount:
                return
            undone = db.execute("""
                UPDATE shelf.reservations SET status = 'CANCELLED'
                WHERE order_id = %(order_id)s AND status = 'RESERVED'""", event)
            if undone.rowcount:
                db.execute("UPDATE shelf.stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s", event)

        answer = (on_created, on_cancelled)
    '''
    why = (
        "There is no order between two topics, so a cancel can come first. The row of the order is the memory: "
        "whichever event comes first makes it, and the status decides what the next one does. The tombstone (usual "
        "names: cancellation marker, semantic lock) is kept, because the late command can come at any time."
    )
    mistakes = (
        Wrong(
            """
            def on_created(db, event):
                db.execute("UPDATE shelf.stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s", event)

            def on_cancelled(db, event):
                db.execute("UPDATE shelf.stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s", event)

            answer = (on_created, on_cancelled)
            """,
            "someone else",
        ),
        Wrong(
            '''
            def on_created(db, event):
                new = db.execute("""
                    INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'RESERVED')
                    ON CONFLICT DO NOTHING""", event)
                if new.rowcount:
                    db.execute("UPDATE shelf.stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s", event)

            def on_cancelled(db, event):
                undone = db.execute("""
                    UPDATE shelf.reservations SET status = 'CANCELLED'
                    WHERE order_id = %(order_id)s AND status = 'RESERVED'""", event)
                if undone.rowcount:
                    db.execute("UPDATE shelf.stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s", event)

            answer = (on_created, on_cancelled)
            ''',
            "forever",
        ),
        Wrong(
            '''
            def on_created(db, event):
                new = db.execute("""
                    INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'RESERVED')
                    ON CONFLICT DO NOTHING""", event)
                if new.rowcount:
                    db.execute("UPDATE shelf.stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s", event)

            def on_cancelled(db, event):
                gone = db.execute("DELETE FROM shelf.reservations WHERE order_id = %(order_id)s", event)
                if gone.rowcount:
                    db.execute("UPDATE shelf.stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s", event)

            answer = (on_created, on_cancelled)
            ''',
            "forever",
        ),
        Wrong(
            '''
            def on_created(db, event):
                db.execute("""
                    INSERT INTO shelf.reservations VALUES (%(order_id)s, %(sku)s, %(quantity)s, 'RESERVED')""", event)
                db.execute("UPDATE shelf.stock SET reserved = reserved + %(quantity)s WHERE sku = %(sku)s", event)

            def on_cancelled(db, event):
                undone = db.execute("""
                    UPDATE shelf.reservations SET status = 'CANCELLED'
                    WHERE order_id = %(order_id)s AND status = 'RESERVED'""", event)
                if undone.rowcount:
                    db.execute("UPDATE shelf.stock SET reserved = reserved - %(quantity)s WHERE sku = %(sku)s", event)

            answer = (on_created, on_cancelled)
            ''',
            "UniqueViolation",
        ),
    )

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        handlers = dict(zip(("created", "cancelled"), functions, strict=True))
        arrivals = [one for length in (1, 2, 3) for one in itertools.product(handlers, repeat=length)]
        self.create_tables(bench)
        with bench.look.db.connect("inventory") as db:
            for number, arrival in enumerate(arrivals):
                self._deliver(db, handlers, arrival, f"order-{number}")
                db.rollback()
        return right(f"{len(arrivals)} orders of arrival, with duplicates, and the stock is right after each.")

    def _deliver(
        self, db: psycopg.Connection[Any], handlers: dict[str, Function], arrival: tuple[str, ...], order: str
    ) -> None:
        others, ours = 7, 2
        db.execute("UPDATE shelf.stock SET reserved = %s", [others])
        event = {"order_id": order, "sku": "sencha", "quantity": ours}
        story = ", then ".join(f"on_{one}" for one in arrival)
        for one in arrival:
            call(handlers[one], db, event, when=f"With {story}")
        row = db.execute("SELECT reserved FROM shelf.stock").fetchone()
        found, expected = (row[0] if row else 0), others + (0 if "cancelled" in arrival else ours)
        if found == expected:
            return
        if found < expected:
            meaning = f"{expected - found} packs that someone else has reserved count as free, and are sold twice"
        elif "cancelled" in arrival:
            meaning = f"{found - expected} packs stay reserved forever for a cancelled order, and can't be sold"
        else:
            meaning = f"{found - expected} packs too many are reserved: the event came twice, and the order once"
        raise Rejected(f"{story}: {found} packs are reserved instead of {expected}. {meaning}.")
