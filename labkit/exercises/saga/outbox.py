"""The exercises of notebook 02."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from labkit.errors import QueryFailed
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.building.write_both import WriteBoth

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    VALUES (%s, 'order', %s, %s, '{}', 'urn:sagalab:Exercise:1.0', 'urn:sagalab:exercise')
"""
RETAINED = """
    SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS kept,
           pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint AS unread
    FROM pg_replication_slots WHERE slot_name = 'outbox'
"""


class ByYourOwnHand(Exercise):
    """A committed outbox row becomes a record."""

    name = "by-your-own-hand"
    title = "Create a Kafka record with nothing but SQL"
    kind = "query"
    level = 2
    minutes = 3
    hints = (
        "The lesson has inserted an outbox row. Which columns become key, type and value of the record?",
        'look.db.connect("order") is one transaction, which the end of the `with` block commits. aggregateid is '
        "given.key, and type is 'Greeting'.",
        'It begins:\n    with look.db.connect("order") as db:\n        db.execute("""INSERT INTO outbox (id, '
        "aggregatetype, aggregateid, type, payload, dataschema, source) ...",
    )
    answer = '''
        with look.db.connect("order") as db:
            db.execute("""
                INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
                VALUES (gen_random_uuid(), 'order', %s, 'Greeting', '{"hello": "Kafka"}',
                        'urn:sagalab:Greeting:1.0', 'urn:sagalab:me')""", [given.key])
    '''
    why = (
        "A program that can write to the outbox table can publish to the topic, without a Kafka client. aggregatetype "
        "chose the topic, aggregateid became the key, payload the value, and the other columns became headers."
    )
    mistakes = (
        Wrong(
            f"""
            import uuid
            with look.db.connect("order") as db:
                db.execute({INSERT!r}, [uuid.uuid4(), uuid.uuid4(), "Greeting"])
            """,
            "given.key",
        ),
        Wrong(
            f"""
            import uuid
            with look.db.connect("order") as db:
                db.execute({INSERT!r}, [uuid.uuid4(), given.key, "Hello"])
            """,
            "type",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        facts = {"key": str(uuid.uuid4()), "since": datetime.now(UTC).isoformat()}
        return "given.key is a new key. No event has it yet.", facts

    def check(self, bench: Bench, answer: Any) -> Verdict:
        query = "SELECT type FROM outbox WHERE aggregateid = %(key)s"
        types = list(bench.look.db.rows("order", query, key=bench.given.key)["type"])
        if "Greeting" in types:
            record = bench.look.kafka.record(bench.given.key, "Greeting").record
            return right(f"A record Greeting is in {record.topic}, with your key and your payload.")
        if types:
            return wrong(f"A row with your key exists, but its type is {types[0]}; it should be Greeting.")
        query = "SELECT type FROM outbox WHERE type = 'Greeting' AND created_at > %(since)s"
        if len(bench.look.db.rows("order", query, since=bench.given.since)):
            return wrong("There is a new Greeting, but with another key. Put given.key into the column aggregateid.")
        return untouched("No row with given.key is committed in the order service's outbox. (A rollback leaves none.)")


class MeasureTheWait(Exercise):
    """A slot retains the log until its reader has read it."""

    name = "measure-the-wait"
    title = "How many bytes of log does the slot retain for Debezium?"
    kind = "query"
    level = 2
    minutes = 6
    hints = (
        "pg_replication_slots has one row for each slot, with two positions in the log. From which of them on must "
        "PostgreSQL keep the log?",
        "pg_wal_lsn_diff(a, b) is the distance of two positions in bytes; pg_current_wal_lsn() is the end of the log.",
        "It begins:\n    SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), ...",
    )
    answer = '''
        answer = """
            SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)
            FROM pg_replication_slots WHERE slot_name = 'outbox'
        """
    '''
    why = (
        "While a slot has no reader, PostgreSQL retains the log from restart_lsn on. That is why no event is lost, "
        "and also how a forgotten slot fills a disk: show this distance on every dashboard."
    )
    mistakes = (
        Wrong('answer = "SELECT pg_current_wal_lsn()"', "a distance"),
        Wrong(
            """
            answer = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) FROM pg_replication_slots"
            """,
            "further back",
        ),
        Wrong('answer = "SELECT * FROM pg_replication_slots"', "one column"),
        Wrong('answer = "SELECT count(*) FROM outbox"', "bytes"),
        Wrong('answer = "SELECT retained FROM pg_replication_slots"', "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        bench.lab.stop("connect")
        orders = [bench.shop.place_order("edsger", "rome", {"chamomile": 1}) for _ in range(3)]
        return "Connect is stopped, and three orders were placed.", {"orders": [order.order_id for order in orders]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        before = bench.look.db.rows("order", RETAINED)
        try:
            found = bench.look.db.rows("order", str(answer))
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        after = bench.look.db.rows("order", RETAINED)
        if found.shape != (1, 1):
            return wrong("The query must return one row with one column: the number of bytes.")
        try:
            number = int(found.iloc[0, 0])
        except (ValueError, TypeError):
            if "/" in str(found.iloc[0, 0]):
                return wrong(
                    "That is a position in the log. The answer is a distance: from the slot's position to the end of "
                    "the log."
                )
            return wrong("The answer is a plain number of bytes.")
        if "confirmed_flush_lsn" in str(answer) and "restart_lsn" not in str(answer):
            # After a calm moment both positions are the same, and a wrong query returns the right number.
            return wrong(
                "That is the part that Debezium has not confirmed. PostgreSQL retains the log from further back, "
                "although the two can be equal for a moment: which other position does the slot have?"
            )
        if before.kept.item() <= number <= after.kept.item():
            return right("PostgreSQL retains that much of the log until Debezium has read it.")
        if before.unread.item() <= number <= after.unread.item():
            return wrong(
                "That is the part that Debezium has not confirmed. PostgreSQL retains the log from further back: "
                "which other position does the slot have?"
            )
        return wrong(
            f"{number} is not correct: the answer is the bytes of log between the slot's restart_lsn and the end "
            "of the log."
        )

    def cleanup(self, bench: Bench) -> str:
        bench.lab.start("connect")
        ended = [bench.shop.follow(order) for order in bench.given.orders]
        return f"Connect is running again, and all {len(ended)} orders have ended."


class SamePartition(Exercise):
    """Kafka keeps the order within a partition, and a key always maps to the same partition."""

    name = "same-partition"
    title = "Find two orders that share a partition"
    kind = "diagnosis"
    level = 2
    minutes = 7
    hints = (
        "A record has a key and a partition, and one order's records are all in the same partition of a topic.",
        'look.kafka.records(given.orders, "order.events") returns views; view.record.key and view.record.partition '
        "fill a dict. Two keys with the same value are the answer.",
        "It begins:\n    partition = {view.record.key: view.record.partition for view in ...",
    )
    answer = """
        views = look.kafka.records(given.orders, "order.events")
        partition = {view.record.key: view.record.partition for view in views}
        answer = next((a, b) for a in partition for b in partition if a < b and partition[a] == partition[b])
    """
    why = (
        "Six keys, four partitions: at least two keys share one. Kafka hashes the key, so one order's records always "
        "go to the same partition and keep their order. Between two orders Kafka promises nothing; even in the same "
        "partition their order has no meaning. This allows four consumers to work in parallel."
    )
    mistakes = (
        Wrong("answer = (given.orders[0], given.orders[0])", "two different orders"),
        Wrong(
            """
            views = look.kafka.records(given.orders, "order.events")
            partition = {view.record.key: view.record.partition for view in views}
            answer = next((a, b) for a in partition for b in partition if partition[a] != partition[b])
            """,
            "different partitions",
        ),
        Wrong('answer = "order.events"', "pair"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        orders = [bench.shop.place_order("grace", "vienna", {"assam-breakfast": 1}) for _ in range(6)]
        for order in orders:
            bench.look.kafka.record(order, "OrderCompleted")
        return "given.orders holds the ids of six new orders.", {"orders": [order.order_id for order in orders]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, tuple | list | set) or len(answer) != 2:
            return wrong("The answer is a pair of order ids: (one, other).")
        one, other = (bench.shop.id(order) for order in answer)
        views = bench.look.kafka.records(bench.given.orders, "order.events")
        partition = {view.record.key: view.record.partition for view in views}
        if one == other or not {one, other} <= set(partition):
            return wrong("Choose two different orders from given.orders.")
        if partition[one] != partition[other]:
            return wrong(f"They are in different partitions: {partition[one]} and {partition[other]}.")
        return right(f"Both are in partition {partition[one]} of order.events.")


class WhoSetsTheKey(Exercise):
    """The connector's settings determine the record of a row."""

    name = "who-sets-the-key"
    title = "Which setting of the connector determines the record's key?"
    kind = "diagnosis"
    level = 1
    minutes = 2
    hints = (
        "The connector's settings are JSON: look.connect.config('order') returns them as a dict.",
        "One setting has the value aggregateid, the column whose value becomes the key. The answer is the whole "
        "name of this setting.",
        'It begins:\n    answer = next(name for name, value in look.connect.config("order").items() if ...',
    )
    answer = "answer = next(name for name, value in look.connect.config('order').items() if value == 'aggregateid')"
    why = (
        "table.field.event.key = aggregateid: the order's id becomes the key, and the key determines the partition, "
        "so the events of one order stay in order. With the event's id as the key, two events of one order could "
        "overtake each other."
    )
    mistakes = (
        Wrong('answer = "transforms.outbox.route.by.field"', "topic"),
        Wrong('answer = "aggregateid"', "column"),
        Wrong('answer = "table.field.event.key"', "begins"),
        Wrong('answer = "slot.name"', "outbox"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        settings = bench.look.connect.config("order")
        if answer in settings and settings[answer] == "aggregateid":
            return right(f"{answer} = aggregateid.")
        if answer == "transforms.outbox.route.by.field":
            return wrong(
                f"That setting names {settings[answer]}, which determines the topic. Which one names the key's column?"
            )
        if answer == "aggregateid":
            return wrong("That is the column. The answer is the name of the setting that names this column.")
        if f"transforms.outbox.{answer}" in settings:
            return wrong(
                "That is its name inside the transformation. In the connector's settings it begins with: transforms."
            )
        value = settings.get(str(answer))
        return wrong(
            f"Its value is {value}, which is not the column of the key."
            if value
            else "The connector has no such setting."
        )


EXERCISES: tuple[Exercise, ...] = (
    WhoSetsTheKey(),
    ByYourOwnHand(),
    WriteBoth(),
    MeasureTheWait(),
    SamePartition(),
)
