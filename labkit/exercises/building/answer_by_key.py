"""The server's side of an idempotency key."""

from __future__ import annotations

from typing import Any

import psycopg

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import Function, Rejected, TablesExercise, at_once, in_transaction

WISHES = """
    CREATE TABLE wishes.orders (order_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body jsonb NOT NULL);
    CREATE TABLE wishes.keys (key text PRIMARY KEY, body jsonb NOT NULL, order_id uuid NOT NULL);
"""


class AnswerByKey(TablesExercise):
    """The key, the request and the order are in one transaction."""

    name = "answer-by-key"
    title = "Write the server's side of the Idempotency-Key"
    level = 3
    minutes = 18
    functions = ("place(db, key, body)",)
    service, schema, tables = "order", "wishes", WISHES
    description = (
        "In the order service's database: wishes.orders (order_id with a default, body jsonb) and\n"
        "wishes.keys (key, primary key; body jsonb; order_id)."
    )
    hints = (
        "Four cases: no key, a new key, a known key with the same body, a known key with another body. In which of "
        "them is an order created? And what if a second request comes while the first one has not committed?",
        "Insert the key first, with an order_id of uuid4() and ON CONFLICT DO NOTHING: rowcount 0 means that it is "
        "known. psycopg.types.json.Jsonb(body) passes a dict; a jsonb column returns one, and == compares them.",
        "It begins:\n    order_id = uuid4()\n    new = key is None or db.execute("
        '"INSERT INTO wishes.keys VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", [key, Jsonb(body), order_id]).rowcount',
    )
    answer = """
        from uuid import uuid4
        from psycopg.types.json import Jsonb

        def place(db, key, body):
            order_id = uuid4()
            if key is not None:
                new = db.execute("INSERT INTO wishes.keys VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                                 [key, Jsonb(body), order_id])
                if new.rowcount == 0:
                    known, order_id = db.execute(
                        "SELECT body, order_id FROM wishes.keys WHERE key = %s", [key]).fetchone()
                    return (200, order_id) if known == body else (409, None)
            db.execute("INSERT INTO wishes.orders VALUES (%s, %s)", [order_id, Jsonb(body)])
            return 201, order_id

        answer = place
    """
    why = (
        "201, then 200 with the same order; another body under the same key is a mistake of the client (409 here; the "
        "IETF's draft recommends 422 for it, and 409 for a request that is still running). The INSERT of the key comes "
        "first, since it is the lock: a second request at the same time waits there until the first has committed."
    )
    mistakes = (
        Wrong(
            """
            from uuid import uuid4
            from psycopg.types.json import Jsonb

            def place(db, key, body):
                order_id = uuid4()
                db.execute("INSERT INTO wishes.orders VALUES (%s, %s)", [order_id, Jsonb(body)])
                return 201, order_id

            answer = place
            """,
            "two parcels",
        ),
        Wrong(
            """
            from uuid import uuid4
            from psycopg.types.json import Jsonb

            def place(db, key, body):
                known = db.execute("SELECT order_id FROM wishes.keys WHERE key = %s", [key]).fetchone()
                if known:
                    return 200, known[0]
                order_id = uuid4()
                if key:
                    db.execute("INSERT INTO wishes.keys VALUES (%s, %s, %s)", [key, Jsonb(body), order_id])
                db.execute("INSERT INTO wishes.orders VALUES (%s, %s)", [order_id, Jsonb(body)])
                return 201, order_id

            answer = place
            """,
            "another order",
        ),
        Wrong(
            """
            from uuid import uuid4
            from psycopg.types.json import Jsonb

            def place(db, key, body):
                known = db.execute("SELECT body, order_id FROM wishes.keys WHERE key = %s", [key]).fetchone()
                if known:
                    return (200, known[1]) if known[0] == body else (409, None)
                order_id = uuid4()
                if key:
                    db.execute("INSERT INTO wishes.keys VALUES (%s, %s, %s)", [key, Jsonb(body), order_id])
                db.execute("INSERT INTO wishes.orders VALUES (%s, %s)", [order_id, Jsonb(body)])
                return 201, order_id

            answer = place
            """,
            "double click",
        ),
        Wrong(
            """
            import json
            from uuid import uuid4
            from psycopg.types.json import Jsonb

            def place(db, key, body):
                order_id = uuid4()
                if key:
                    new = db.execute("INSERT INTO wishes.keys VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                                     [key, Jsonb({"text": json.dumps(body)}), order_id])
                    if new.rowcount == 0:
                        known, order_id = db.execute(
                            "SELECT body, order_id FROM wishes.keys WHERE key = %s", [key]).fetchone()
                        return (200, order_id) if known["text"] == json.dumps(body) else (409, None)
                db.execute("INSERT INTO wishes.orders VALUES (%s, %s)", [order_id, Jsonb(body)])
                return 201, order_id

            answer = place
            """,
            "another order of its fields",
        ),
    )

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (place,) = functions
        self.create_tables(bench)
        body = {"sku": "sencha", "quantity": 2}
        with bench.look.db.connect("order") as db:
            first = self._send(db, place, "k1", body, when="For a new key")
            if first[0] != 201:
                raise Rejected(f"A new key was answered with {first[0]}; the request creates an order, so 201.")
            again = self._send(db, place, "k1", body, when="For the same request again")
            if self._orders(db) != 1:
                raise Rejected("The client sent the same key and body twice, and gets two parcels.")
            if again[0] != 200 or str(again[1]) != str(first[1]):
                raise Rejected(
                    f"The repetition was answered with {again[0]} and {_short(again[1])}; the client needs 200 and "
                    "the id of the existing order, so that it can follow that one."
                )
            turned = self._send(
                db, place, "k1", dict(reversed(body.items())), when="For the same fields, sorted otherwise"
            )
            if turned[0] != 200:
                raise Rejected(
                    f"The same request in another order of its fields was answered with {turned[0]}. In JSON it is "
                    "equal: compare the parsed bodies, not their text."
                )
            other = self._send(db, place, "k1", {**body, "quantity": 50}, when="For another body under the same key")
            if other[0] not in (409, 422) or self._orders(db) != 1:
                raise Rejected(
                    f"A known key with another order in its body was answered with {other[0]}. The client believes "
                    "that 50 packs are ordered, and gets 2: answer 409 or 422, and create nothing."
                )
            without = [self._send(db, place, None, body, when="Without a key")[0] for _ in range(2)]
            if without != [201, 201]:
                raise Rejected(
                    f"Two requests without a key were answered with {without}: without a key, each is an order."
                )
            before = self._orders(db)
        results = at_once(bench, "order", place, "k2", body)
        with bench.look.db.connect("order") as db:
            created = self._orders(db) - before
        failed = [result for result in results if isinstance(result, Exception)]
        if failed or created != 1:
            how = (
                f"the second one fails with {type(failed[0]).__name__}, a 500 for the customer"
                if failed
                else "both are new"
            )
            raise Rejected(
                f"A double click, two requests with one key at the same time: {how}; orders created: {created}. Both "
                "looked for the key before one of them had stored it."
            )
        if sorted(result[0] for result in results) != [200, 201]:
            raise Rejected(f"Two requests at the same time were answered with {[result[0] for result in results]}.")
        return right("201, 200, then 409 or 422 for another body; and of two at the same time, one creates the order.")

    def _send(
        self, db: psycopg.Connection[Any], place: Function, key: str | None, body: dict[str, Any], *, when: str
    ) -> tuple[int, Any]:
        answer = in_transaction(db, place, key, body, when=when)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise Rejected(f"{when}, place returns {answer!r}; it should return a pair: (status, order_id).")
        return answer

    def _orders(self, db: psycopg.Connection[Any]) -> int:
        return len(db.execute("SELECT FROM wishes.orders").fetchall())


def _short(value: Any) -> str:
    return "no order" if value is None else f"the order {str(value)[:8]}…"
