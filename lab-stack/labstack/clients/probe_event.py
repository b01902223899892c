"""The probe event: it travels the whole path, from an outbox row through Debezium and Kafka to each service.

One transaction inserts and deletes its row. The table stays unchanged, and Debezium still publishes exactly one record.
No service knows the event type, so each service ignores the record and commits its offset past it. That committed
offset proves that the service consumed the record.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psycopg

from labservices.contract import events_topic
from labstack.clients import broker, consumer_groups
from labstack.clients.databases import connect
from labstack.errors import ProbeEventLost, RelayFailed
from labstack.waiting import poll_until

TYPE = "Canary"

# One key for each of the four partitions (Kafka hashes the key with murmur2), so that every partition of a topic ends
# with a probe event.
KEYS = tuple(f"00000000-0000-7000-8000-{n:012d}" for n in (1, 4, 0, 8))

INSERT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source, traceparent)
    VALUES (%s, %s, %s, 'Canary', '{}', 'urn:sagalab:Canary:1.0', '/lab', %s)
"""


def new_probe_events() -> list[tuple[str, str]]:
    """Return the ID and key of one probe event for each partition."""
    return [(str(uuid.uuid4()), key) for key in KEYS]


def insert(connection: psycopg.Connection, service: str, probe_events: list[tuple[str, str]]) -> None:
    """Insert and delete the rows of these probe events in the caller's transaction."""
    for event_id, key in probe_events:
        traceparent = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"
        connection.execute(INSERT, (event_id, service, key, traceparent))
        connection.execute("DELETE FROM outbox WHERE id = %s", (event_id,))


@dataclass
class SentProbeEvents:
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


def send(kafka: str, databases: Mapping[str, str]) -> SentProbeEvents:
    """Send one probe event per partition through the outbox of each service.

    Parameters
    ----------
    kafka : str
        Bootstrap server.
    databases : mapping
        libpq URL by service.
    """
    topics = [events_topic(service) for service in databases]
    sent = SentProbeEvents(broker.end_offsets(kafka, broker.partitions(kafka, topics)))
    for service, url in databases.items():
        probe_events = new_probe_events()
        sent.ids[events_topic(service)] = {event_id for event_id, _ in probe_events}
        with connect(url, timeout=10) as connection:
            insert(connection, service, probe_events)
    return sent


def wait_for_arrival(
    kafka: str, sent: SentProbeEvents, timeout: float, meanwhile: Callable[[], None] | None = None
) -> None:
    """Wait until the probe event of each partition has arrived, however many events the relay publishes before it.

    Parameters
    ----------
    kafka : str
        Bootstrap server.
    sent : SentProbeEvents
        The probe events; `seen` is filled.
    timeout : float
        Seconds without a new event after which the wait times out.
    meanwhile : callable, optional
        Called while waiting; an exception that it raises ends the wait.

    Raises
    ------
    ProbeEventLost
        Some probe events did not arrive; the message names their topics.
    """
    arrived: set[str | None] = set()
    deadline = time.monotonic() + timeout
    with broker.reading(kafka, sent.start) as consumer:
        while sent.missing:
            if meanwhile:
                meanwhile()
            record = broker.poll(consumer, 0.2)
            while record is not None:
                event_id = record.headers.get("ce_id")
                if event_id not in arrived:  # a relay that fails again and again publishes the same events
                    arrived.add(event_id)
                    deadline = time.monotonic() + timeout
                if event_id in sent.ids.get(record.topic, ()):
                    sent.seen[record.topic_partition] = record.offset
                record = broker.poll(consumer, 0)
            if sent.missing and time.monotonic() >= deadline:
                break
    if not sent.missing:
        return
    topics = sorted({topic for topic, _ in sent.missing})
    raise ProbeEventLost(
        f"A probe event from the outbox did not arrive in {', '.join(topics)}: "
        f"{len(arrived)} events arrived, and then none for {timeout:.0f} s.",
        tuple(topic.removesuffix(".events") for topic in topics),
        next_step="check in `lab status` that Connect and every connector run, and look at `lab logs connect`",
    )


CATCH_UP = 5.0
"""Seconds after which a start does not wait further for a consumer group whose backlog has become smaller."""


def wait_for_services(
    kafka: str,
    sent: SentProbeEvents,
    groups: Iterable[str],
    timeout: float,
    meanwhile: Callable[[], None] | None = None,
) -> dict[str, int]:
    """Wait until each consumer group has committed past the probe event of each partition assigned to it.

    The wait includes groups without assigned partitions. After `CATCH_UP` seconds, it skips a group whose backlog has
    become smaller.

    Returns
    -------
    dict
        Number of records that each such group is still behind.

    Raises
    ------
    RelayFailed
        A group committed nothing in `timeout` seconds; the message names it, and how far it is behind.
    """
    began = time.monotonic()
    waiting, first, behind = set(groups), dict[str, int](), dict[str, int]()
    starts = broker.start_offsets(kafka, broker.partitions(kafka, {topic for topic, _ in sent.seen}))

    def left(group: str, assigned: set[tuple[str, int]]) -> int:
        committed = consumer_groups.committed_offsets(kafka, group)
        return sum(max(0, sent.seen[p] + 1 - max(committed.get(p, 0), starts[p])) for p in assigned & set(sent.seen))

    def settled() -> bool:
        may_lag = time.monotonic() - began > CATCH_UP
        for group, assigned in consumer_groups.assigned(kafka, waiting).items():
            if not assigned:
                continue
            behind[group] = left(group, assigned)
            has_progress = behind[group] < first.setdefault(group, behind[group])
            if not behind[group] or (may_lag and has_progress):
                waiting.discard(group)
        return not waiting

    if not poll_until(settled, timeout, interval=0.03, meanwhile=meanwhile):
        figures = ", ".join(
            f"{group} is {behind[group]} records behind" if group in behind else f"{group} has no partitions"
            for group in sorted(waiting)
        )
        raise RelayFailed(
            f"The probe event is in Kafka, but consumers handled no record for {timeout:.0f} s: {figures}.",
            next_step=f"look at `lab logs {sorted(waiting)[0]}`, then run `lab up` again",
        )
    return {group: records for group, records in behind.items() if records}
