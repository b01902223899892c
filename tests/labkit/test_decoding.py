"""The output of logical decoding, and the offsets that Connect stores, on a real lab."""

from __future__ import annotations

import uuid

import pytest

from labkit import Session, wait_until
from labkit.exercises.saga.outbox import INSERT
from labkit.sources import pgoutput

PEEK = """
    SELECT xid, data FROM pg_logical_slot_peek_binary_changes(
        'test_' || pg_backend_pid(), NULL, NULL, 'proto_version', '1', 'publication_names', 'outbox')
"""


def test_only_committed_rows_are_decoded(session: Session) -> None:
    """A committed row is an INSERT between BEGIN and COMMIT, with its columns; a rolled-back row does not appear."""
    key = str(uuid.uuid4())
    with session.look.db.connect("order") as observer:
        observer.autocommit = True
        observer.execute("SELECT pg_create_logical_replication_slot('test_' || pg_backend_pid(), 'pgoutput', true)")
        with session.look.db.connect("order") as db:
            db.execute(INSERT, [uuid.uuid4(), key, "Regretted"])
            db.rollback()
            db.execute(INSERT, [uuid.uuid4(), key, "Kept"])
        messages = pgoutput.read(observer.execute(PEEK))
        shown = session.look.db.decode(observer.execute(PEEK), "type", "traceparent")
    mine = [message for message in messages if message.row.get("aggregateid") == key]
    assert [message.row["type"] for message in mine] == ["Kept"]
    assert mine[0].row["traceparent"] is None
    around = [message.name for message in messages if message.transaction == mine[0].transaction]
    assert [name for name in around if name != "RELATION"] == ["BEGIN", "INSERT", "COMMIT"]
    assert "Kept" in set(shown.type)


def test_other_bytes_raise_an_error() -> None:
    """Bytes that are not a pgoutput message raise an error."""
    with pytest.raises(ValueError, match="no message of pgoutput"):
        pgoutput.read([("1", b"?????")])


def test_the_offset_of_connect_is_read_from_its_topic(session: Session) -> None:
    """The last stored offset is at or behind the log position of the newest row."""
    order = session.shop.follow(session.shop.place_order("ada", "rome", {"rooibos": 1}))
    query = "SELECT (max(wal_position) - '0/0'::pg_lsn)::bigint AS lsn FROM outbox WHERE aggregateid = %(order)s"
    lsn = int(session.look.db.rows("order", query, order=order).lsn.item())
    assert wait_until(lambda: session.look.connect.stored_offset("order").get("lsn", 0) >= lsn)
