"""Two exercises of notebook 11: a publication from a requirement, and the configuration of a connector."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
from psycopg import sql

from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, wrong
from labkit.sources import pgoutput
from labstack.clients import broker, http
from labstack.clients.relay import Relay
from labstack.clients.replication import restore_publication
from labstack.errors import LabError
from labstack.waiting import poll_until

CREATE_ENTRIES = """
    DROP SCHEMA IF EXISTS books CASCADE;
    CREATE SCHEMA books;
    CREATE TABLE books.entries (
        entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        order_id text, kind text, amount_cents int, card text)
"""
INSERT_ENTRIES = """
    INSERT INTO books.entries (order_id, kind, amount_cents, card)
    VALUES ('order-1', 'capture', 1780, '4000 0000 0000 0002'), ('order-1', 'refund', -1780, '4000 0000 0000 0002')
"""
CREATE_SLOT = "SELECT pg_create_logical_replication_slot('finance_' || pg_backend_pid(), 'pgoutput', temporary => true)"
PEEK = """
    SELECT xid::text, data FROM pg_logical_slot_peek_binary_changes(
        'finance_' || pg_backend_pid(), NULL, NULL, 'proto_version', '1', 'publication_names', 'finance')
"""
WANTED = ("order_id", "amount_cents")
PUBLICATION = """
    CREATE PUBLICATION finance
    FOR TABLE books.entries (entry_id, order_id, amount_cents) WHERE (kind = 'refund')
    WITH (publish = 'insert')
"""


def quoted(statement: str) -> str:
    """Return SQL as code of a learner."""
    return f'answer = """{statement}"""'


class OnlyRefunds(Exercise):
    """A publication with a column list, a row filter and a list of operations."""

    name = "only-refunds"
    title = "Write the publication that gives finance each new refund, no other row, and never a card number"
    kind = "query"
    level = 2
    minutes = 12
    hints = (
        "PostgreSQL's manual, CREATE PUBLICATION, has a list of columns and a row filter for each table, and the "
        "parameter publish. Which of the three answers which part of the requirement?",
        "FOR TABLE books.entries (columns) WHERE (condition) WITH (publish = ...). The row filter may use only columns "
        "of the replica identity if updates or deletes are published; finance needs neither.",
        "It begins:\n    CREATE PUBLICATION finance FOR TABLE books.entries (entry_id, order_id, amount_cents)",
    )
    answer = quoted(PUBLICATION)
    why = (
        "What a publication leaves out never leaves the database: PostgreSQL filters before it sends, so no setting of "
        "a reader can undo it. publish = 'insert' matters twice: finance gets new rows only, and an UPDATE of the "
        "table stays possible, which PostgreSQL rejects if it would have to evaluate the filter without the column."
    )
    mistakes = (
        Wrong(quoted("CREATE PUBLICATION finance FOR TABLE books.entries WITH (publish = 'insert')"), "card numbers"),
        Wrong(quoted(PUBLICATION.replace("WHERE (kind = 'refund')", "")), "captures"),
        Wrong(quoted(PUBLICATION.replace("WITH (publish = 'insert')", "")), "service can't update"),
        Wrong(quoted(PUBLICATION.replace("'refund'", "'refunds'")), "no refund"),
        Wrong(quoted(PUBLICATION.replace(", order_id", "")), "order_id"),
        Wrong(quoted(PUBLICATION.replace("(kind = 'refund')", "kind = 'refund'")), "syntax"),
        Wrong(quoted(PUBLICATION.replace("PUBLICATION finance", "PUBLICATION refunds")), "finance"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        with bench.look.db.connect("payment") as db:
            db.execute(CREATE_ENTRIES)
        return "books.entries (entry_id, order_id, kind, amount_cents, card) exists in payment's database.", {}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, str):
            return wrong("The answer is the statement CREATE PUBLICATION, as a string.")
        with bench.look.db.connect("payment") as db:
            db.autocommit = True
            drop_other_publications(db)
            db.execute(CREATE_ENTRIES)
            try:
                db.execute(answer)
            except psycopg.Error as error:
                return wrong(f"PostgreSQL rejects the statement: {str(error).splitlines()[0]}.")
            if not db.execute("SELECT 1 FROM pg_publication WHERE pubname = 'finance'").fetchone():
                return wrong("There is no publication of the name finance, so finance's reader would fail.")
            db.execute(CREATE_SLOT)
            db.execute(INSERT_ENTRIES)
            try:
                db.execute("UPDATE books.entries SET amount_cents = -1790 WHERE kind = 'refund'")
            except psycopg.Error as error:
                return wrong(
                    f"The service can't update its own table any more: {str(error).splitlines()[0]}. PostgreSQL would "
                    "have to publish the update, too, and can't evaluate your filter for it. Does finance need updates?"
                )
            messages = pgoutput.read((str(xid), bytes(data)) for xid, data in db.execute(PEEK).fetchall())
        return self._verdict([one.row for one in messages if one.name == "INSERT"])

    def _verdict(self, rows: list[dict[str, str | None]]) -> Verdict:
        if not rows:
            return wrong("A capture and a refund were inserted, and the reader has received no refund.")
        if any("card" in row for row in rows):
            return wrong(
                f"Finance's reader has received card numbers: {rows[0]['card']}. Name the columns that may pass."
            )
        if missing := [column for column in WANTED if column not in rows[0]]:
            return wrong(f"The refund has arrived without {' and '.join(missing)}, so finance can't book it.")
        if len(rows) > 1:
            return wrong("Finance's reader has received captures, too, and would pay them out. Filter the rows.")
        if rows[0]["amount_cents"] != "-1780":
            return wrong("The reader has received the capture instead of the refund.")
        return right(f"A capture, a refund and an update happened; the reader has received {rows}, and no card number.")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.db.connect("payment") as db:
            drop_other_publications(db)
            db.execute("DROP SCHEMA IF EXISTS books CASCADE")
        return "books.entries and its publication are dropped."


def drop_other_publications(db: psycopg.Connection) -> None:
    """Drop every publication but the relay's, whatever name an earlier attempt gave it."""
    for (name,) in db.execute("SELECT pubname FROM pg_publication WHERE pubname <> 'outbox'").fetchall():
        db.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))


SERVICE = "inventory"
"""The service in whose database the letters are."""

TOPIC = "letters.events"
CREATE_LETTERS = """
    DROP SCHEMA IF EXISTS letters CASCADE;
    CREATE SCHEMA letters;
    CREATE TABLE letters.outbox (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), sender text NOT NULL, about text NOT NULL,
        kind text NOT NULL, body jsonb NOT NULL);
    DROP PUBLICATION IF EXISTS letters;
    CREATE PUBLICATION letters FOR TABLE letters.outbox WITH (publish = 'insert')
"""
INSERT_LETTER = """
    INSERT INTO letters.outbox (sender, about, kind, body)
    VALUES ('letters', %s, 'LetterSent', '{"text": "Your tea is on its way."}') RETURNING id::text
"""
SLOT_IS_READ = (
    "SELECT 1 FROM pg_replication_slots WHERE active AND database = current_database() AND slot_name <> 'outbox'"
)
FREE_SLOTS = "SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()"
CONFIG = {
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "topic.prefix": "letters",
    "plugin.name": "pgoutput",
    "slot.name": "letters",
    "publication.name": "letters",
    "publication.autocreate.mode": "disabled",
    "table.include.list": "letters.outbox",
    "snapshot.mode": "no_data",
    "message.prefix.exclude.list": ".*",
    "extended.headers.enabled": "false",
    "transforms": "outbox",
    "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
    "transforms.outbox.route.by.field": "sender",
    "transforms.outbox.route.topic.replacement": "${routedByValue}.events",
    "transforms.outbox.table.field.event.key": "about",
    "transforms.outbox.table.field.event.type": "kind",
    "transforms.outbox.table.field.event.payload": "body",
    "transforms.outbox.table.fields.additional.placement": "id:header:ce_id,kind:header:ce_type",
    "topic.creation.default.partitions": "4",
    "topic.creation.default.replication.factor": "1",
}


def configured(*without: str, **changed: str) -> str:
    """Return the configuration as code of a learner, without some settings and with others changed."""
    dots = {name.replace("__", "."): value for name, value in changed.items()}
    config = {name: value for name, value in (CONFIG | dots).items() if not name.startswith(without or ("-",))}
    return f"answer = {json.dumps(config, indent=4)} | given.connection"


class YourOwnConnector(Exercise):
    """The configuration of a connector for an outbox with other column names."""

    name = "your-own-connector"
    title = "Configure the connector that publishes the rows of letters.outbox to the topic letters.events"
    kind = "config"
    level = 3
    minutes = 33
    hints = (
        "Two halves: what the connector reads (above, `config` shows the settings of order-outbox), and what the event "
        "router makes of a row (notebook 02). The router's documentation lists table.field.event.key, .type and "
        ".payload for columns with other names.",
        "Your own slot.name, the publication letters, the table letters.outbox, snapshot.mode no_data. In the router: "
        "route.by.field, route.topic.replacement, table.fields.additional.placement. topic.prefix is required: choose "
        "a name. Nothing creates the topic unless topic.creation.default.partitions and .replication.factor are set.",
        'It begins:\n    answer = {"connector.class": "io.debezium.connector.postgresql.PostgresConnector",\n'
        '              "plugin.name": "pgoutput", "slot.name": "letters", ...} | given.connection',
    )
    answer = configured()
    why = (
        "One connector is one reader of one slot in one database. The router needs to know where each part of an event "
        "is: the column that names the topic, the key that keeps an order's events in order, the type, the payload. "
        "Everything else is a header. The publication decides what leaves PostgreSQL, table.include.list what Debezium "
        "keeps of it. (message.prefix.exclude.list leaves out the heartbeats that the relay writes into the same log.)"
    )
    mistakes = (
        Wrong(configured("transforms"), "letters.letters.outbox"),
        Wrong(configured("transforms.outbox.table.field.event.key"), "aggregateid"),
        Wrong(configured("transforms.outbox.route.topic"), "outbox.event.letters"),
        Wrong(configured("topic.creation"), "no topic"),
        Wrong(configured(slot__name="outbox"), "relay"),
        Wrong(configured("plugin.name"), "decoderbufs"),
        Wrong(configured(table__include__list="public.outbox"), "no record"),
        Wrong(configured("transforms.outbox.table.fields.additional"), "ce_type"),
        Wrong(configured("topic.prefix"), "topic.prefix"),
        Wrong("answer = '{\"name\": }'", "JSON"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        with bench.look.db.connect(SERVICE) as db:
            db.execute(CREATE_LETTERS)
        settings = bench.look.connect.config(SERVICE).items()
        message = (
            "letters.outbox (id, sender, about, kind, body) and its publication `letters` exist in inventory's "
            "database. given.connection has the settings with which Connect reaches it."
        )
        return message, {"connection": {name: value for name, value in settings if name.startswith("database.")}}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        try:
            document = json.loads(answer) if isinstance(answer, str) else answer
        except ValueError as error:
            return wrong(f"Connect would answer 400, because this is no JSON: {error}.")
        settings = document.get("config", document) if isinstance(document, dict) else None
        if not isinstance(settings, dict):
            return wrong("The answer is the connector's configuration: a dict, or a string of JSON.")
        config = {str(name): str(value) for name, value in settings.items()}
        if config.get("slot.name") == "outbox":
            return wrong(
                "The slot outbox has a reader, inventory's relay, and a slot has one. Your connector would fail; and "
                "if it came first after a restart, the relay would fail, and no stock would be reserved any more."
            )
        with prepared(bench), registered(bench, config) as (name, rejection):
            if rejection:
                return wrong(f"Connect rejects it: {rejection}")
            verdict = self._try(bench, name)
        plugin = config.get("plugin.name", "decoderbufs, its default")
        if verdict.outcome == "wrong" and plugin != "pgoutput":
            return wrong(f"{verdict.message} Debezium decodes with {plugin}; the server's own plugin is pgoutput.")
        return verdict

    def _try(self, bench: Bench, name: str) -> Verdict:
        """Insert a row once the connector reads, and return a verdict on its record."""
        url = f"{bench.lab.endpoints.connect}/connectors/{name}/status"

        def failure() -> str:
            tasks = http.get(url, timeout=10).json().get("tasks") or [{}]
            causes = [line for line in tasks[0].get("trace", "").splitlines() if "Exception" in line]
            return causes[-1].removeprefix("Caused by: ").rpartition("Exception: ")[2] if causes else ""

        with bench.look.db.connect(SERVICE) as db:
            db.autocommit = True
            poll_until(lambda: failure() or db.execute(SLOT_IS_READ).fetchone(), 40)
            if reason := failure():
                return wrong(f"The connector's task has failed, and would publish nothing: {reason}")
            before = topics(bench)
            about = f"order-{secrets.token_hex(3)}"
            row = db.execute(INSERT_LETTER, [about]).fetchone()
        assert row is not None  # an INSERT with RETURNING returns its row
        found: list[broker.Record] = []

        def strays() -> list[str]:
            # The relay writes heartbeats into the same log; they become records of a topic whose name ends in .message.
            new = topics(bench) - before - {TOPIC}
            return sorted(name for name in new if not name.endswith(".message"))

        def arrived() -> bool:
            found[:] = broker.read_all(bench.lab.endpoints.kafka, [TOPIC]) if TOPIC in topics(bench) else []
            return bool(found or failure() or strays())

        poll_until(arrived, 15)
        if reason := failure():
            return wrong(f"The first row has stopped the connector's task: {reason}")
        if elsewhere := strays():
            return wrong(
                f"The record went to {elsewhere[0]}, which no consumer reads. What makes a topic's name of a row?"
            )
        if not found:
            return wrong(
                f"The row is committed, the connector is RUNNING, and there is no record: no topic {TOPIC} exists, "
                "or the table does not pass both filters. Which setting lets Connect create a topic?"
            )
        return self._verdict(found[0], about, row[0])

    def _verdict(self, record: broker.Record, about: str, event: str) -> Verdict:
        if record.key != about:
            return wrong(
                f"The record's key is {record.key!r}, not {about!r}: an order's letters would lie in several "
                "partitions, in no order."
            )
        expected = {"ce_id": event, "ce_type": "LetterSent"}
        if missing := [name for name, value in expected.items() if record.headers.get(name) != value]:
            return wrong(
                f"The record has no header {' and '.join(missing)} with the row's value, so a consumer can't tell "
                "what it is, or whether it has seen it."
            )
        try:
            text = json.loads(record.value or b"")["text"]
        except (ValueError, LookupError, TypeError):
            return wrong(f"The record's value is {record.value!r}, not the row's body. Which column is the payload?")
        return right(f"The row became a record of {TOPIC} under the key {about}, with both headers: {text!r}")

    def cleanup(self, bench: Bench) -> str:
        with bench.look.db.connect(SERVICE) as db:
            drop_other_publications(db)
            db.execute("DROP SCHEMA IF EXISTS letters CASCADE")
        return "letters.outbox and its publication are dropped; the check has removed its connector and topics."


def topics(bench: Bench) -> set[str]:
    """Return the names of all topics."""
    with broker.admin(bench.lab.endpoints.kafka) as client:
        return set(client.list_topics(timeout=10).topics)


@contextmanager
def prepared(bench: Bench) -> Iterator[None]:
    """Recreate the table for the block; remove the slots and topics that appear in the block."""
    before = topics(bench)
    with bench.look.db.connect(SERVICE) as db:
        db.execute(CREATE_LETTERS)
    try:
        yield
    finally:
        with bench.look.db.connect(SERVICE) as db:
            db.autocommit = True
            poll_until(lambda: db.execute(FREE_SLOTS).fetchone() == (1,), 30)  # only the relay's is read
            drop_other_publications(db)
        restore_publication(bench.lab.endpoints.databases[SERVICE])  # drops the slots without a reader
        if more := topics(bench) - before:
            broker.delete_topics(bench.lab.endpoints.kafka, more)


@contextmanager
def registered(bench: Bench, config: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Register a connector for the block; yield its name, and Connect's reason if it rejects the configuration."""
    # Connect stores a position under the connector's name. It does not fit a slot that is created again, so each
    # connector gets a new name.
    name = f"letters-{secrets.token_hex(3)}"
    url = f"{bench.lab.endpoints.connect}/connectors/{name}/config"
    config = {key: value for key, value in config.items() if key != "name"}
    try:
        answer = http.request("PUT", url, json=config, timeout=30)
        if answer.is_success:
            yield name, ""
        else:
            yield name, str(answer.json().get("message", answer.status_code)).replace("\n", " ").strip()
    except httpx.HTTPError as error:
        raise LabError(
            f"Connect doesn't answer ({type(error).__name__}).", next_step="`lab.start('connect')` starts it"
        ) from error
    finally:
        Relay(bench.lab.endpoints.connect).delete(name)
