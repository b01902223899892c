"""The exercises of notebook 11; two are in `publishing.py`."""

from __future__ import annotations

import random
from typing import Any

from labkit.errors import QueryFailed, WaitTimedOut
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, untouched, wrong
from labkit.exercises.operations.publishing import OnlyRefunds, YourOwnConnector
from labkit.waiting import wait_until
from labstack.clients.replication import restore_publication

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


class WhoKeepsTheLog(Exercise):
    """A slot without a reader retains the log forever."""

    name = "who-keeps-the-log"
    title = "A database retains more and more log. Find the cause and remove it"
    kind = "query"
    level = 2
    minutes = 6
    hidden = ("service", "elsewhere", "confirmed")
    hints = (
        (
            "Look at pg_replication_slots in each of the four databases. The log is kept from a slot's "
            "restart_lsn on. Which slot does not belong to the relay?"
        ),
        (
            "Use pg_drop_replication_slot(name), in the database of that slot. A slot with a reader can't be "
            "dropped, and the relay's must not be."
        ),
        (
            "It begins:\n"
            '    for service in ("order", "inventory", "payment", "shipping"):\n'
            "        print(look.db.rows(service, slots))"
        ),
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
                while db.execute("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'outbox' AND active").fetchone():
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
    kind = "query"
    level = 3
    minutes = 14
    hidden = ("service", "said", "written")
    hints = (
        (
            "Look at look.connect.relayed(given.order): which service has a row without a record? Then look "
            "at that database's publication, as in *Logical decoding*."
        ),
        (
            "Use ALTER PUBLICATION outbox SET (publish = ...) in that database. The excluded row is not "
            "published by that: lab.resend(given.order) inserts it again."
        ),
        ("It begins:\n    look.connect.relayed(given.order)"),
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
    kind = "query"
    level = 3
    minutes = 25
    hints = (
        (
            "Look at the last section: the poller misses a row that commits later than a row with a greater "
            "number. Up to which transaction can no such row appear any more?"
        ),
        (
            "Use pg_snapshot_xmin(pg_current_snapshot()), the oldest transaction that still runs: every "
            "transaction before it has ended. Return rows after `last` and before that one, by txid."
        ),
        ("It begins:\n    SELECT txid, id, said FROM polled.notes\n    WHERE txid > %(last)s::xid8 AND txid < ..."),
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
    OnlyRefunds(),
    YourOwnConnector(),
    WhoKeepsTheLog(),
    TheSilentSieve(),
    PollWithoutLoss(),
)
