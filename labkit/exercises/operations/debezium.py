"""The exercises of notebook 11."""

from __future__ import annotations

import random
import uuid
from typing import Any

from labkit.errors import QueryFailed, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.saga.outbox import INSERT
from labkit.waiting import wait_until
from labstack.clients.replication import restore_publication

END = "SELECT pg_current_wal_lsn()::text AS place"
DISTANCE = "SELECT pg_wal_lsn_diff(%(b)s::pg_lsn, %(a)s::pg_lsn)::bigint AS bytes"
OTHER_SLOTS = """
    SELECT slot_name, confirmed_flush_lsn::text AS confirmed FROM pg_replication_slots
    WHERE slot_name <> 'outbox' AND NOT temporary AND database = current_database()
"""
OWN_SLOT = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'outbox'"
PUBLISHED = """
    SELECT count(*) AS fit FROM pg_publication JOIN pg_publication_tables USING (pubname)
    WHERE pubname = 'outbox' AND pubinsert AND tablename = 'outbox' AND rowfilter IS NULL
"""
EVENT_OF = {"inventory": "InventoryReserved", "payment": "PaymentCompleted", "shipping": "ShipmentScheduled"}


class BytesBetween(Exercise):
    """A log position counts bytes."""

    name = "bytes-between"
    title = "How many bytes of log are between given.a and given.b?"
    tip = "An LSN is two hexadecimal numbers, 'high/low': high * 2**32 + low bytes. PostgreSQL can subtract them, too."
    answer = """
        query = "SELECT pg_wal_lsn_diff(%(b)s::pg_lsn, %(a)s::pg_lsn)::bigint AS bytes"
        answer = int(look.db.rows("order", query, a=given.a, b=given.b).bytes.item())
    """
    why = (
        "A few thousand bytes for one order: its row, its outbox row, their index entries, the inbox, the commits. "
        "Debezium receives a fraction of them. A distance in bytes measures what is left to read, and what the disk "
        "keeps. It does not measure time: an idle database writes almost nothing, a bulk load writes megabytes in a "
        "second."
    )
    mistakes = (
        Wrong("answer = given.b", "a number"),
        Wrong(
            """
            query = "SELECT pg_wal_lsn_diff(%(a)s::pg_lsn, %(b)s::pg_lsn)::bigint AS bytes"
            answer = int(look.db.rows("order", query, a=given.a, b=given.b).bytes.item())
            """,
            "wrong direction",
        ),
        Wrong('answer = len(look.db.rows("order", "SELECT id FROM outbox"))', "bytes"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        before = bench.look.db.rows("order", END).place.item()
        bench.shop.follow(bench.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
        after = bench.look.db.rows("order", END).place.item()
        return f"An order was placed and completed. Before it the log ended at {before}, after it at {after}.", {
            "a": before,
            "b": after,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        bytes_ = int(bench.look.db.rows("order", DISTANCE, a=bench.given.a, b=bench.given.b).bytes.item())
        try:
            number = int(answer)
        except (TypeError, ValueError):
            return wrong("That is a position. The answer is a number: the bytes from one position to the other.")
        if number == bytes_:
            return right(f"{bytes_} bytes of log for one order, in one of four databases.")
        if number == -bytes_:
            return wrong(
                "The size is right, but it has the wrong direction: subtract the earlier position from the later one."
            )
        return wrong(f"{number} is not correct. An LSN counts bytes, and is written in hexadecimal.")


class PartOfATransaction(Exercise):
    """Changes rolled back to a savepoint are never decoded."""

    name = "part-of-a-transaction"
    title = "A transaction rolls back to a savepoint and then commits. Which records are published, and in which order?"
    tip = "A savepoint starts a subtransaction. Which of the three inserts does the commit include?"
    answer = 'answer = ["Kept", "Added"]'
    why = (
        "Logical decoding collects the changes of each transaction, with its subtransactions separate, and emits them "
        "at the commit: complete, in the order of the writes, without the changes that were rolled back. An ORM may "
        "create savepoints without your knowledge; the events are still correct."
    )
    mistakes = (
        Wrong('answer = ["Kept", "Undone", "Added"]', "Undone"),
        Wrong('answer = ["Added", "Kept"]', "order"),
        Wrong("answer = []", "commits"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        key = str(uuid.uuid4())
        with bench.look.db.connect("order") as db:
            db.execute(INSERT, [uuid.uuid4(), key, "Kept"])
            db.execute("SAVEPOINT here")
            db.execute(INSERT, [uuid.uuid4(), key, "Undone"])
            db.execute("ROLLBACK TO SAVEPOINT here")
            db.execute(INSERT, [uuid.uuid4(), key, "Added"])
        bench.look.kafka.record(key, "Added")
        views = bench.look.kafka.records(key, "order.events")
        types = [record.type for record in sorted((v.record for v in views), key=lambda record: record.offset)]
        given = list(answer) if isinstance(answer, list | tuple) else answer
        if given == types:
            return right(
                f"The lab has just run it with a new key, and these records were published: {', '.join(types)}."
            )
        if not given:
            return wrong("The transaction commits in the end. Which rows does the commit include?")
        if isinstance(given, list) and "Undone" in given:
            return wrong(
                "Undone is in the log. But it was rolled back, and Debezium does not receive changes that were "
                "rolled back."
            )
        return wrong("The answer is a list of types, in the order in which the transaction wrote them.")


class WhoKeepsTheLog(Exercise):
    """A slot without a reader retains the log forever."""

    name = "who-keeps-the-log"
    title = "A database retains more and more log. Find the cause and remove it"
    tip = (
        "Query pg_replication_slots in all four databases. Which slots exist, which of them are active, and from "
        "which position do they retain the log? pg_drop_replication_slot(name) drops one."
    )
    answer = """
        forgotten = "FROM pg_replication_slots WHERE slot_name <> 'outbox' AND NOT active"
        for service in ("order", "inventory", "payment", "shipping"):
            with look.db.connect(service) as db:
                db.execute("SELECT pg_drop_replication_slot(slot_name) " + forgotten)
    """
    why = (
        "A colleague tried a reporting tool and left. The tool is gone; its slot is stored in the database, survives "
        "every restart, and retains the log until it is dropped or max_slot_wal_keep_size is reached. So each slot "
        "needs an owner and an alert. Find the owner before you drop a slot."
    )
    mistakes = (
        Wrong(
            """
            for service in ("order", "inventory", "payment", "shipping"):
                with look.db.connect(service) as db:
                    db.execute(
                        "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn())"
                        " FROM pg_replication_slots WHERE NOT active"
                    )
            """,
            "has no reader",
        ),
        Wrong(
            """
            import time
            lab.stop("connect")
            with look.db.connect(given.elsewhere) as db:
                db.autocommit = True
                while db.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchone():
                    time.sleep(0.1)
                db.execute("SELECT pg_drop_replication_slot('outbox')")
            """,
            "relay's own",
        ),
        Wrong(
            """
            lab.stop("connect")
            with look.db.connect(given.service) as db:
                db.execute("SELECT pg_drop_replication_slot('reporting')")
            """,
            "must keep running",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        self._drop(bench)
        service, elsewhere = random.sample(list(bench.lab.endpoints.databases), 2)
        with bench.look.db.connect(service) as db:
            db.autocommit = True
            made = db.execute("SELECT lsn::text FROM pg_create_logical_replication_slot('reporting', 'pgoutput')")
            row = made.fetchone()
            assert row is not None  # PostgreSQL returns the new slot or raises
            for _ in range(2):  # two log segments, 16 MiB each
                db.execute("SELECT pg_current_xact_id()")
                db.execute("SELECT pg_switch_wal()")
        message = "One of the four databases retains more than 16 MB of log. Yesterday it did not."
        return message, {"service": service, "elsewhere": elsewhere, "confirmed": row[0]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        for service in bench.lab.endpoints.databases:
            own = list(bench.look.db.rows(service, OWN_SLOT).wal_status)
            if own in ([], ["lost"]):
                return wrong(
                    f"The relay's own slot is gone from {service}, and with it everything that it had not read yet. "
                    "The cleanup resets the lab."
                )
        if problem := bench.lab.status(memory=False).complaints.get("connect"):
            return wrong(f"The relay must keep running, but it does not: connect: {problem}.")
        others = bench.look.db.rows(bench.given.service, OTHER_SLOTS)
        if not len(others):
            return right(f"The reporting tool's slot in {bench.given.service}'s database is gone, and nothing else.")
        if others.confirmed.item() != bench.given.confirmed:
            return wrong(
                "You advanced the slot, so PostgreSQL can remove the log for now. But the slot still has no "
                "reader, so it stays at its new position."
            )
        return untouched("The log is still retained in one of the four databases.")

    def cleanup(self, bench: Bench) -> str:
        self._drop(bench)
        usable = [list(bench.look.db.rows(service, OWN_SLOT).wal_status) for service in bench.lab.endpoints.databases]
        if [] in usable or ["lost"] in usable or bench.lab.status(memory=False).state != "ready":
            bench.lab.reset()
            return "The relay was broken, so the lab was reset."
        return "Only the relay's own slots are left."

    def _drop(self, bench: Bench) -> None:
        for url in bench.lab.endpoints.databases.values():
            restore_publication(url)


class TheSilentSieve(Exercise):
    """Rows that the publication leaves out are lost without an error."""

    name = "the-silent-sieve"
    title = "given.order is stuck, and every component is healthy. Fix the cause, and publish the lost event"
    tip = (
        "look.connect.relayed(given.order) shows which service's row is not published. In that database, what does the "
        "publication include (pg_publication, pg_publication_tables)? Rows that it excluded are not published later "
        "by themselves: `lab.resend(order)`."
    )
    answer = """
        for service in ("inventory", "payment", "shipping"):
            with look.db.connect(service) as db:
                db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
        lab.resend(given.order)
    """
    why = (
        "publish = 'update, delete' is a valid publication, and an outbox has neither. Debezium received nothing and "
        "had no reason to report an error; slot, task and worker were healthy. Two repairs are needed: the "
        "publication, and the lost event. The rows are still in the table, so they can be published again."
    )
    mistakes = (
        Wrong(
            """
            for service in ("inventory", "payment", "shipping"):
                with look.db.connect(service) as db:
                    db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
            """,
            "when the row was written",
        ),
        Wrong("lab.resend(given.order)", "again"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        service, said = random.choice(list(EVENT_OF.items()))
        with bench.look.db.connect(service) as db:
            db.execute("ALTER PUBLICATION outbox SET (publish = 'update, delete')")
        order = bench.shop.place_order("grace", "rome", {"rooibos": 1}).order_id
        query = "SELECT xmin::text AS written FROM outbox WHERE aggregateid = %(order)s AND type = %(said)s"
        rows = wait_until(lambda: list(bench.look.db.rows(service, query, order=order, said=said).written), 60)
        message = (
            "Grace has placed an order (given.order). One of the services has answered, but its event is not published."
        )
        return message, {"order": order, "service": service, "said": said, "written": rows[0]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = bench.given
        if not bench.look.db.rows(given.service, PUBLISHED).fit.item():
            query = "SELECT xmin::text AS written FROM outbox WHERE aggregateid = %(order)s AND type = %(said)s"
            now = list(bench.look.db.rows(given.service, query, order=given.order, said=given.said).written)
            if now != [given.written]:
                return wrong("The row was written again, and again it was not published: something excludes it.")
            return untouched("The row is not published, and every connector and task is RUNNING.")
        try:
            bench.look.kafka.record(given.order, given.said, timeout=5)
        except WaitTimedOut:
            return wrong(
                "New rows will be published. But Debezium decodes a row with the publication that was in effect when "
                "the row was written: the excluded row must be written again."
            )
        return right(f"{given.service} publishes again, and {given.said} is in its topic.")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.db.connect(bench.given.service) as db:
            db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
        bench.lab.resend(bench.given.order)
        ended = bench.shop.follow(bench.given.order)
        return f"The publication is restored, and the order is {ended.status}."


CREATE_NOTES = """
    DROP SCHEMA IF EXISTS polled CASCADE;
    CREATE SCHEMA polled;
    CREATE TABLE polled.notes (
        txid xid8 NOT NULL DEFAULT pg_current_xact_id(), id bigint GENERATED ALWAYS AS IDENTITY, said text)
"""
INSERT_NOTE = "INSERT INTO polled.notes (said) VALUES (%s)"


class PollWithoutLoss(Exercise):
    """A poller's bookmark may pass a row only when no earlier transaction can still commit."""

    name = "poll-without-loss"
    title = "Write a poller's query that loses no row, although transactions commit in a different order"
    tip = (
        "pg_snapshot_xmin(pg_current_snapshot()) is the oldest transaction that is still running. For which rows can "
        "no row with a smaller txid appear later?"
    )
    answer = '''
        answer = """
            SELECT txid, id, said FROM polled.notes
            WHERE txid > %(last)s::xid8 AND txid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY txid, id
        """
    '''
    why = (
        "The query returns a row only after every transaction that started writing before it has ended, so no row can "
        "appear behind the bookmark. The price: one transaction that stays open for an hour, anywhere in the server, "
        "delays every event by an hour. Debezium does not wait for it: it receives transactions in the order of their "
        "commits, and no commit is added in the past."
    )
    mistakes = (
        Wrong(
            'answer = "SELECT txid, id, said FROM polled.notes WHERE txid > %(last)s::xid8 ORDER BY txid, id"',
            "skipped",
        ),
        Wrong('answer = "SELECT txid, id, said FROM polled.notes ORDER BY txid, id"', "repeatedly"),
        Wrong(
            """
            answer = (
                "SELECT txid, id, said FROM polled.notes WHERE txid > %(last)s::xid8"
                " AND txid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY id"
            )
            """,
            "by txid",
        ),
        Wrong('answer = "SELECT id, said FROM polled.notes WHERE id > %(last)s ORDER BY id"', "txid"),
        Wrong('answer = "SELECT txid, id, said FROM polled.note"', "PostgreSQL"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        with bench.look.db.connect("order") as db:
            db.execute(CREATE_NOTES)
        return "polled.notes (txid, id, said) exists in the order service's database; it is empty.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        with bench.look.db.connect("order") as db:
            db.execute(CREATE_NOTES)
        slow, quick = bench.look.db.connect("order"), bench.look.db.connect("order")
        poller = _Poller(bench, str(answer))
        try:
            # `slow` is the older transaction, but it writes the newer row.
            slow.execute("SELECT pg_current_xact_id()")
            quick.execute(INSERT_NOTE, ["quick"])
            quick.commit()
            poller.poll()
            slow.execute(INSERT_NOTE, ["slow"])
            slow.commit()
            wait_until(lambda: {"slow", "quick"} <= poller.poll(), 5)
        except QueryFailed as error:
            return wrong(f"PostgreSQL rejects the query: {error.problem}")
        except _MissingPosition:
            return wrong("The poller stores the first column as its bookmark, `last`: that should be the txid.")
        except WaitTimedOut:
            missing = " and ".join(sorted({"slow", "quick"} - set(poller.seen)))
            return wrong(f"Two transactions ran, and one committed first. The query skipped the note of {missing}.")
        finally:
            slow.close()
            quick.close()
        poller.poll()
        if len(poller.seen) > len(set(poller.seen)):
            return wrong(
                "The query loses no row, but it returns the same rows repeatedly. Return only rows after `last`, "
                "by txid."
            )
        return right("slow started first and committed last, and both notes were returned, once each.")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.db.connect("order") as db:
            db.execute("DROP SCHEMA IF EXISTS polled CASCADE")
        return "polled.notes is dropped."


class _MissingPosition(Exception):
    """The first column is not the txid."""


class _Poller:
    """Runs a learner's query repeatedly, each time with the last txid that it returned."""

    def __init__(self, bench: Bench, query: str) -> None:
        self._bench = bench
        self._query = query
        self._last = "0"
        self.seen: list[str] = []

    def poll(self) -> set[str]:
        """Run the query once more, and return all notes seen so far."""
        rows = self._bench.look.db.rows("order", self._query, last=self._last)
        for row in rows.to_dict("records"):
            if next(iter(row)) != "txid" or "said" not in row:
                raise _MissingPosition
            self._last = str(row["txid"])
            self.seen.append(row["said"])
        return set(self.seen)


EXERCISES: tuple[Exercise, ...] = (
    BytesBetween(),
    PartOfATransaction(),
    WhoKeepsTheLog(),
    TheSilentSieve(),
    PollWithoutLoss(),
)
