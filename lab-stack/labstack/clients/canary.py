"""The probe event: it travels the whole path, from an outbox row through Debezium and Kafka to each service.

One transaction inserts and deletes its row. The table stays unchanged, and Debezium still publishes exactly one record.
No service knows the event type, so each service ignores the record and commits its offset past it. That committed
offset proves that the service consumed the record.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psycopg

from labstack.clients import broker
from labstack.errors import CanaryLost, RelayFailed
from labstack.waiting import wait_until

TYPE = "Canary"

# One key for each of the four partitions (Kafka hashes the key with murmur2), so that every partition of a topic ends
# with a probe event.
KEYS = tuple(f"00000000-0000-7000-8000-{n:012d}" for n in (1, 4, 0, 8))

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source, traceparent)
    VALUES (%s, %s, %s, 'Canary', '{}', 'urn:sagalab:Canary:1.0', '/lab', %s)
"""


def new_canaries() -> list[tuple[str, str]]:
    """Return the ID and key of one probe event for each partition."""
    return [(str(uuid.uuid4()), key) for key in KEYS]


def lay(connection: psycopg.Connection, service: str, canaries: list[tuple[str, str]]) -> None:
    """Insert and delete the rows of these probe events in the caller's transaction."""
    for event_id, key in canaries:
        traceparent = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"
        connection.execute(INSERT, (event_id, service, key, traceparent))
        connection.execute("DELETE FROM outbox WHERE id = %s", (event_id,))


@dataclass
class Flight:
    """Probe events in flight.

    Attributes
    ----------
    start : dict
        End offset of each partition before the probe events were sent.
    ids : dict
        IDs of the probe events, by topic.
    seen : dict
        Offsets of the probe events that have arrived, by topic and partition.
    """

    start: dict[tuple[str, int], int]
    ids: dict[str, set[str]] = field(default_factory=dict)
    seen: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def missing(self) -> list[tuple[str, int]]:
        return sorted(set(self.start) - set(self.seen))


def let_go(kafka: str, databases: Mapping[str, str]) -> Flight:
    """Send one probe event per partition through the outbox of each service.

    Parameters
    ----------
    kafka : str
        Bootstrap server.
    databases : mapping
        libpq URL by service.
    """
    topics = [f"{service}.events" for service in databases]
    flight = Flight(broker.end_offsets(kafka, broker.partitions(kafka, topics)))
    for service, url in databases.items():
        canaries = new_canaries()
        flight.ids[f"{service}.events"] = {event_id for event_id, _ in canaries}
        with psycopg.connect(url, connect_timeout=10) as connection:
            lay(connection, service, canaries)
    return flight


def watch(kafka: str, flight: Flight, timeout: float, meanwhile: Callable[[], None] | None = None) -> None:
    """Wait until the probe event of each partition has arrived.

    Raises
    ------
    CanaryLost
        Some probe events did not arrive in time; the message names their topics.
    """
    with broker.reading(kafka, flight.start) as consumer:

        def look() -> bool:
            record = broker.poll(consumer, 0.2)
            while record is not None:
                if record.headers.get("ce_id") in flight.ids.get(record.topic, ()):
                    flight.seen[record.place] = record.offset
                record = broker.poll(consumer, 0)
            return not flight.missing

        if wait_until(look, timeout, interval=0.001, meanwhile=meanwhile):
            return
    lost = sorted({topic for topic, _ in flight.missing})
    raise CanaryLost(
        f"A probe event from the outbox did not arrive in {', '.join(lost)} within {timeout:.0f} s.",
        tuple(topic.removesuffix(".events") for topic in lost),
        next_step="check in `lab status` that Connect and every connector run, and look at `lab logs connect`",
    )


def wait_for_services(
    kafka: str,
    flight: Flight,
    groups: Iterable[str],
    timeout: float,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Wait until each consumer group has committed past the probe event of each partition assigned to it.

    A group without assigned partitions is waited for, too.

    Raises
    ------
    RelayFailed
        A group did not commit in time; the message names it.
    """
    waiting = set(groups)

    def all_past() -> bool:
        for group, reads in broker.assigned(kafka, waiting).items():
            committed = broker.committed_offsets(kafka, group)
            if reads and all(committed.get(p, -1) > flight.seen[p] for p in reads & set(flight.seen)):
                waiting.discard(group)
        return not waiting

    if not wait_until(all_past, timeout, interval=0.03, meanwhile=meanwhile):
        raise RelayFailed(
            f"The probe event is in Kafka, but {', '.join(sorted(waiting))} did not consume it within {timeout:.0f} s.",
            next_step=f"look at `lab logs {sorted(waiting)[0]}`",
        )
