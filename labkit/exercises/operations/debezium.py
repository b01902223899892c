"""The exercises of notebook 11."""

from __future__ import annotations

import random
import uuid
from typing import Any

from labkit.errors import QueryFailed, WaitedTooLong
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.saga.outbox import INSERT
from labkit.waiting import wait_until
from labstack.clients.replication import put_back

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
SAID_BY = {"inventory": "InventoryReserved", "payment": "PaymentCompleted", "shipping": "ShipmentScheduled"}


class BytesBetween(Exercise):
    """A log position counts bytes."""

    name = "bytes-between"
    title = "How many bytes of log lie between given.a and given.b?"
    tip = "An LSN is two hexadecimal numbers, 'high/low': high * 2**32 + low bytes. PostgreSQL can subtract them, too."
    answer = """
        query = "SELECT pg_wal_lsn_diff(%(b)s::pg_lsn, %(a)s::pg_lsn)::bigint AS bytes"
        answer = int(look.sql("order", query, a=given.a, b=given.b).bytes.item())
    """
    why = (
        "A few thousand bytes for one order: its row, its outbox row, their index entries, the inbox, the commits, of "
        "which Debezium is given a fraction. A distance in bytes is what is left to read, and what the disk keeps. "
        "It says nothing of time: an idle database writes nearly nothing, a bulk load writes megabytes in a second."
    )
    mistakes = (
        Wrong("answer = given.b", "a number"),
        Wrong(
            """
            query = "SELECT pg_wal_lsn_diff(%(a)s::pg_lsn, %(b)s::pg_lsn)::bigint AS bytes"
            answer = int(look.sql("order", query, a=given.a, b=given.b).bytes.item())
            """,
            "the other way",
        ),
        Wrong('answer = len(look.sql("order", "SELECT id FROM outbox"))', "bytes"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        before = bench.look.sql("order", END).place.item()
        bench.shop.follow(bench.shop.place_order("ada", "lisbon", {"earl-grey": 1}))
        after = bench.look.sql("order", END).place.item()
        return f"An order came through. Before it the log ended at {before}, after it at {after}.", {
            "a": before,
            "b": after,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        bytes_ = int(bench.look.sql("order", DISTANCE, a=bench.given.a, b=bench.given.b).bytes.item())
        try:
            number = int(answer)
        except (TypeError, ValueError):
            return wrong("That is a position. Wanted is a number: the bytes from one to the other.")
        if number == bytes_:
            return right(f"{bytes_} bytes of log for one order, in one of four databases.")
        if number == -bytes_:
            return wrong("The size is right, but it goes the other way: take the earlier one from the later one.")
        return wrong(f"{number} is not it. An LSN counts bytes, and is written in hexadecimal.")


class PartOfATransaction(Exercise):
    """Changes rolled back to a savepoint are never decoded."""

    name = "part-of-a-transaction"
    title = "A transaction goes back to a savepoint and commits then. Which records come, in which order?"
    tip = "A savepoint makes a transaction within the transaction. Which of the three inserts is part of what commits?"
    answer = 'answer = ["Kept", "Added"]'
    why = (
        "Logical decoding gathers what each transaction writes, those within it apart, and hands it on at the commit: "
        "whole, in the order of the writes, without what was rolled back. An ORM makes savepoints behind your back, "
        "and the events are right all the same."
    )
    mistakes = (
        Wrong('answer = ["Kept", "Undone", "Added"]', "Undone"),
        Wrong('answer = ["Added", "Kept"]', "order"),
        Wrong("answer = []", "commits"),
    )
    needs_setup = False

    def check(self, bench: Bench, answer: Any) -> Verdict:
        key = str(uuid.uuid4())
        with bench.look.connect("order") as db:
            db.execute(INSERT, [uuid.uuid4(), key, "Kept"])
            db.execute("SAVEPOINT here")
            db.execute(INSERT, [uuid.uuid4(), key, "Undone"])
            db.execute("ROLLBACK TO SAVEPOINT here")
            db.execute(INSERT, [uuid.uuid4(), key, "Added"])
        bench.look.record(key, "Added")
        views = bench.look.records(key, "order.events")
        came = [record.type for record in sorted((v.record for v in views), key=lambda record: record.offset)]
        told = list(answer) if isinstance(answer, list | tuple) else answer
        if told == came:
            return right(f"It was just done with a fresh key, and these came: {', '.join(came)}.")
        if not told:
            return wrong("The transaction commits in the end. What is part of it then?")
        if isinstance(told, list) and "Undone" in told:
            return wrong("Undone stands in the log. But it was rolled back, and what is rolled back is not decoded.")
        return wrong("The answer is a list of types, in the order in which they were written within the transaction.")


class WhoKeepsTheLog(Exercise):
    """A slot without a reader retains the log forever."""

    name = "who-keeps-the-log"
    title = "A database keeps more and more log. Find what makes it do so, and end that"
    tip = (
        "Ask pg_replication_slots in all four databases: which slots are there, which of them are read, and from where "
        "on do they keep the log? pg_drop_replication_slot(name) drops one."
    )
    answer = """
        forgotten = "FROM pg_replication_slots WHERE slot_name <> 'outbox' AND NOT active"
        for service in ("order", "inventory", "payment", "shipping"):
            with look.connect(service) as db:
                db.execute("SELECT pg_drop_replication_slot(slot_name) " + forgotten)
    """
    why = (
        "Somebody tried a reporting tool, and went. The tool is gone; its slot is data of the database, survives every "
        "restart, and holds the log back until it is dropped, or until max_slot_wal_keep_size is reached. So each slot "
        "needs an owner and an alert, and no slot is dropped before its owner was found."
    )
    mistakes = (
        Wrong(
            """
            for service in ("order", "inventory", "payment", "shipping"):
                with look.connect(service) as db:
                    db.execute(
                        "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn())"
                        " FROM pg_replication_slots WHERE NOT active"
                    )
            """,
            "nobody reads it",
        ),
        Wrong(
            """
            import time
            lab.stop("connect")
            with look.connect(given.elsewhere) as db:
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
            with look.connect(given.service) as db:
                db.execute("SELECT pg_drop_replication_slot('reporting')")
            """,
            "has to go on",
        ),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        self._drop(bench)
        service, elsewhere = random.sample(list(bench.lab.endpoints.databases), 2)
        with bench.look.connect(service) as db:
            db.autocommit = True
            made = db.execute("SELECT lsn::text FROM pg_create_logical_replication_slot('reporting', 'pgoutput')")
            row = made.fetchone()
            assert row is not None  # PostgreSQL returns the new slot or raises
            for _ in range(2):  # two log segments, 16 MiB each
                db.execute("SELECT pg_current_xact_id()")
                db.execute("SELECT pg_switch_wal()")
        told = "One of the four databases keeps more than 16 MB of log. It wasn't so yesterday."
        return told, {"service": service, "elsewhere": elsewhere, "confirmed": row[0]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        for service in bench.lab.endpoints.databases:
            own = list(bench.look.sql(service, OWN_SLOT).wal_status)
            if own in ([], ["lost"]):
                return wrong(
                    f"The relay's own slot is gone from {service}, and with it what it had still to read. "
                    "The cleanup brings the lab back to its start."
                )
        if complaint := bench.lab.status(memory=False).complaints.get("connect"):
            return wrong(f"The relay has to go on, and does not: connect: {complaint}.")
        others = bench.look.sql(bench.given.service, OTHER_SLOTS)
        if not len(others):
            return right(f"The slot of a reporting tool in {bench.given.service}'s database is gone, and nothing else.")
        if others.confirmed.item() != bench.given.confirmed:
            return wrong("It was moved on, and the log is let go, for now. But nobody reads it: it stands still again.")
        return untouched("The log is still kept, in one of the four databases.")

    def cleanup(self, bench: Bench) -> str:
        self._drop(bench)
        usable = [list(bench.look.sql(service, OWN_SLOT).wal_status) for service in bench.lab.endpoints.databases]
        if [] in usable or ["lost"] in usable or bench.lab.status(memory=False).state != "ready":
            bench.lab.reset()
            return "The relay was broken, so the lab was brought back to its start."
        return "No slot is left but the relay's own."

    def _drop(self, bench: Bench) -> None:
        for url in bench.lab.endpoints.databases.values():
            put_back(url)


class TheSilentSieve(Exercise):
    """Rows that the publication leaves out are lost without an error."""

    name = "the-silent-sieve"
    title = "given.order hangs, and every light is green. Mend the cause, and let the lost event come"
    tip = (
        "look.relay(given.order) shows whose row waits. In that database, what does the publication let through "
        "(pg_publication, pg_publication_tables)? What it has left out does not come by itself: `lab.resend(order)`."
    )
    answer = """
        for service in ("inventory", "payment", "shipping"):
            with look.connect(service) as db:
                db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
        lab.resend(given.order)
    """
    why = (
        "publish = 'update, delete' is a legal publication, and an outbox has neither. Debezium got nothing and had no "
        "reason to complain; slot, task and worker were in the best of health. Two things are to be mended: the way, "
        "and what was lost on it. The rows are still in the table, so they can be said again."
    )
    mistakes = (
        Wrong(
            """
            for service in ("inventory", "payment", "shipping"):
                with look.connect(service) as db:
                    db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
            """,
            "as it was then",
        ),
        Wrong("lab.resend(given.order)", "again"),
    )
    asks_value = False

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        service, said = random.choice(list(SAID_BY.items()))
        with bench.look.connect(service) as db:
            db.execute("ALTER PUBLICATION outbox SET (publish = 'update, delete')")
        order = bench.shop.place_order("grace", "rome", {"rooibos": 1}).order_id
        mine = "SELECT xmin::text AS written FROM outbox WHERE aggregateid = %(order)s AND type = %(said)s"
        rows = wait_until(lambda: list(bench.look.sql(service, mine, order=order, said=said).written), 60)
        told = "Grace has ordered (given.order). One of the services has answered, and nobody hears it."
        return told, {"order": order, "service": service, "said": said, "written": rows[0]}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        given = bench.given
        if not bench.look.sql(given.service, PUBLISHED).fit.item():
            mine = "SELECT xmin::text AS written FROM outbox WHERE aggregateid = %(order)s AND type = %(said)s"
            now = list(bench.look.sql(given.service, mine, order=given.order, said=given.said).written)
            if now != [given.written]:
                return wrong("The row was written again, and again nobody hears of it: something leaves it out.")
            return untouched("The row waits, and everything says RUNNING.")
        try:
            bench.look.record(given.order, given.said, timeout=5)
        except WaitedTooLong:
            return wrong(
                "What is written from now on will come. But a row is decoded with the publication as it was then, when "
                "it was written: the one that was left out needs to be written once more."
            )
        return right(f"{given.service} is heard again, and {given.said} has come after all.")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.connect(bench.given.service) as db:
            db.execute("ALTER PUBLICATION outbox SET (publish = 'insert')")
        bench.lab.resend(bench.given.order)
        ended = bench.shop.follow(bench.given.order)
        return f"The publication is as it was, and the order is {ended.status}."


NOTES = """
    DROP SCHEMA IF EXISTS polled CASCADE;
    CREATE SCHEMA polled;
    CREATE TABLE polled.notes (
        txid xid8 NOT NULL DEFAULT pg_current_xact_id(), id bigint GENERATED ALWAYS AS IDENTITY, said text)
"""
SAY = "INSERT INTO polled.notes (said) VALUES (%s)"


class PollWithoutLoss(Exercise):
    """A poller's bookmark may pass a row only when no earlier transaction can still commit."""

    name = "poll-without-loss"
    title = "Write the query of a poller that loses nothing, although transactions commit in another order"
    tip = (
        "pg_snapshot_xmin(pg_current_snapshot()) is the oldest transaction that still runs. Which rows can't be "
        "overtaken any more, by a row with a smaller txid?"
    )
    answer = '''
        answer = """
            SELECT txid, id, said FROM polled.notes
            WHERE txid > %(last)s::xid8 AND txid < pg_snapshot_xmin(pg_current_snapshot())
            ORDER BY txid, id
        """
    '''
    why = (
        "A row is taken only when every transaction that began to write before it has ended, so nothing can appear "
        "behind the bookmark any more. The price: one transaction that stays open for an hour, anywhere in the server, "
        "holds every event back for an hour. Debezium doesn't wait for it: it is given transactions in the order of "
        "their commits, and nothing commits in the past."
    )
    mistakes = (
        Wrong(
            'answer = "SELECT txid, id, said FROM polled.notes WHERE txid > %(last)s::xid8 ORDER BY txid, id"',
            "passed over",
        ),
        Wrong('answer = "SELECT txid, id, said FROM polled.notes ORDER BY txid, id"', "again and again"),
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
        with bench.look.connect("order") as db:
            db.execute(NOTES)
        return "polled.notes (txid, id, said) is there and empty, in the order service's database.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        with bench.look.connect("order") as db:
            db.execute(NOTES)
        slow, quick = bench.look.connect("order"), bench.look.connect("order")
        poller = _Poller(bench, str(answer))
        try:
            # `slow` is the older transaction, but it writes the newer row.
            slow.execute("SELECT pg_current_xact_id()")
            quick.execute(SAY, ["quick"])
            quick.commit()
            poller.poll()
            slow.execute(SAY, ["slow"])
            slow.commit()
            wait_until(lambda: {"slow", "quick"} <= poller.poll(), 5)
        except QueryFailed as error:
            return wrong(f"PostgreSQL does not take it: {error.problem}")
        except _NoBookmark:
            return wrong("The poller keeps the first column as its bookmark, `last`: that should be the txid.")
        except WaitedTooLong:
            missing = " and ".join(sorted({"slow", "quick"} - set(poller.seen)))
            return wrong(f"Two transactions ran, and one committed first. The note of {missing} was passed over.")
        finally:
            slow.close()
            quick.close()
        poller.poll()
        if len(poller.seen) > len(set(poller.seen)):
            return wrong("It loses nothing, and tells the same again and again. Take only rows after `last`, by txid.")
        return right("slow began first and committed last, and both notes came, once each.")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.connect("order") as db:
            db.execute("DROP SCHEMA IF EXISTS polled CASCADE")
        return "polled.notes is gone."


class _NoBookmark(Exception):
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
        rows = self._bench.look.sql("order", self._query, last=self._last)
        for row in rows.to_dict("records"):
            if next(iter(row)) != "txid" or "said" not in row:
                raise _NoBookmark
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
