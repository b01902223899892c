"""Reset a running lab to the course's start, without a restart of any program and without leftover events.

1. The services' consumers leave their groups (`/manage/consumer/pause`), so that they handle nothing meanwhile.
2. One transaction per database restores the tables to the course's start and adds one probe event per partition to the
   outbox. In the log, the probe events separate everything before the reset from everything after it.
3. When the probe events are in Kafka, so is everything before them. Each group's offset moves past them, and the
   records up to them are deleted. Practice topics of learners are deleted, too.
   Transactions of other producers that are still open would block the consumers, so they are aborted. If a database
   holds much log that its connector has not read, or a service's probe events do not arrive, its connector is renewed,
   and the changes that it had not read are dropped. A connector can look healthy and publish nothing, for example if
   its stored position is beyond the end of the log.
4. The consumers join their groups again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
from confluent_kafka import KafkaException

from labservices.contract import events_topic
from labstack.backends.base import Endpoints
from labstack.clients import broker, consumer_groups, http, practice, probe_event, transactions
from labstack.clients.course_start import restore_tables
from labstack.clients.databases import connect
from labstack.clients.relay import Relay
from labstack.clients.replication import retained_bytes
from labstack.errors import LabError, ProbeEventLost
from labstack.progress import Progress
from labstack.waiting import every, poll_until

TERMINATE_IDLE_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '2 s'
"""

PROBE_TIMEOUT = 30
"""Seconds without a new event after which the reset renews the connectors whose probe events are missing.

A probe event takes 1 to 2 s, 10 s on a busy host.
"""

CHECKPOINT_SECONDS = 1.0
"""Seconds until a deletion of records survives a crash of the broker: twice the interval in ``server.properties``.

The broker reports no checkpoint that could be probed.
"""

TRANSACTION_CHECK = 5.0
"""Seconds between two checks for open transactions while probe events are on their way."""

TRIES = 5
"""Maximum number of attempts to restore the data while another transaction and the reset block each other."""


UNREAD_LIMIT = 16 * 1024 * 1024
"""If a connector has more unread bytes of log than this, a reset drops them at once instead of waiting."""


@contextmanager
def client_errors_translated(what: str) -> Iterator[None]:
    """Raise the errors of databases, HTTP and Kafka in this block as errors of the lab.

    Parameters
    ----------
    what : str
        What the block does, for the message: "The start".
    """
    try:
        yield
    except (psycopg.Error, httpx.HTTPError, KafkaException) as error:
        raise LabError(
            f"{what} failed, because a component did not answer: {type(error).__name__}: {error}",
            next_step="look at `lab status`, then run the command again",
        ) from error


def reset_data(where: Endpoints, instances: Mapping[str, Sequence[str]], progress: Progress) -> float:
    """Reset the data of a healthy lab.

    The reset does not wait until its deletions are on disk, since only a crash of the broker could undo them (see
    `await_checkpoint`).

    Parameters
    ----------
    where : Endpoints
        Addresses of the lab.
    instances : mapping
        Base URLs of all instances of each service.
    progress : Progress
        Receives the reports.

    Returns
    -------
    float
        The time at which the records were deleted, in seconds since 1970.

    Raises
    ------
    LabError
        A consumer did not pause or resume, or the relay did not catch up.
    """
    services, consumers = list(instances), [url for urls in instances.values() for url in urls]
    with client_errors_translated("The reset"), ThreadPoolExecutor(len(consumers)) as pool:
        try:
            list(pool.map(lambda url: _command_consumer(url, "pause"), consumers))
            abort_transactions(where, progress)
            relay = Relay(where.connect)
            relay.renew_all([s for s in services if retained_bytes(where.databases[s]) > UNREAD_LIMIT], where.databases)
            topics = [f"{service}.{kind}" for service in services for kind in ("events", "dlq")]
            start = broker.end_offsets(where.kafka, broker.partitions(where.kafka, topics))

            def restore_and_wait(timeout: float) -> probe_event.SentProbeEvents:
                sent = probe_event.SentProbeEvents(
                    {key: offset for key, offset in start.items() if key[0].endswith(".events")}
                )
                inserted = pool.map(lambda s: (events_topic(s), _restore(where.databases[s], s)), services)
                sent.ids = dict(inserted)
                abort_hanging = every(TRANSACTION_CHECK, lambda: abort_transactions(where, progress))
                probe_event.wait_for_arrival(where.kafka, sent, timeout, abort_hanging)
                return sent

            try:
                sent = restore_and_wait(PROBE_TIMEOUT)
            except ProbeEventLost as lost:
                relay.renew_all(lost.services, where.databases)
                sent = restore_and_wait(2 * PROBE_TIMEOUT)
            delete_before = {**start, **{key: offset + 1 for key, offset in sent.seen.items()}}
            list(pool.map(lambda s: _move_group(where.kafka, s, sent.seen), services))
            broker.delete_records(where.kafka, delete_before)
            deleted = time.time()
            practice.delete_all(where.kafka)
        finally:
            list(pool.map(lambda url: _command_consumer(url, "resume"), consumers))
        list(pool.map(_await_consumers, instances.values()))
    return deleted


def await_checkpoint(deleted: float) -> None:
    """Wait until records that a reset has deleted stay deleted if the broker crashes.

    A broker that is killed within this second by something else than the lab gets the records back. No service handles
    them again, since the offsets of the groups are committed, but the referee and the views see them.

    Parameters
    ----------
    deleted : float
        The result of `reset_data`.
    """
    time.sleep(min(max(0.0, deleted + CHECKPOINT_SECONDS - time.time()), CHECKPOINT_SECONDS))


def abort_transactions(where: Endpoints, progress: Progress, older_than: float = 0) -> None:
    """Abort the open transactions that block the services' consumers, and report each.

    Parameters
    ----------
    where : Endpoints
        Addresses of the lab.
    progress : Progress
        Receives the reports.
    older_than : float
        Seconds; younger transactions are left alone.
    """
    topics = [f"{service}.{kind}" for service in where.services for kind in ("events", "dlq")]
    for transaction in transactions.find_open(where.kafka, topics, older_than):
        progress.report(f"aborts {transaction}: it blocks the consumers")
        transactions.abort(where.kafka, [transaction])


def resume_consumers(instances: Mapping[str, Sequence[str]]) -> None:
    """Resume every paused consumer.

    Parameters
    ----------
    instances : mapping
        Base URLs of all instances of each service.

    Raises
    ------
    LabError
        A service does not answer.
    """
    for urls in instances.values():
        for url in urls:
            _command_consumer(url, "resume")


def _command_consumer(url: str, verb: str) -> None:
    try:
        answer = http.request("POST", f"{url}/manage/consumer/{verb}", timeout=15)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise LabError(
            f"The consumer of {url} did not {verb}: {error}.",
            next_step="look at `lab status`, then run `lab reset` again",
        ) from error


def _await_consumers(urls: Sequence[str]) -> None:
    """Wait until the consumer of an instance has partitions. With many instances of a service, some have none."""

    def has_partitions() -> bool:
        return any(http.get(f"{url}/manage/consumer", timeout=5).json()["assigned"] for url in urls)

    if not poll_until(has_partitions, 15):
        raise LabError(
            f"The consumer of {' and '.join(urls)} did not rejoin its group.", next_step="run `lab reset` again"
        )


def _restore(database_url: str, service: str) -> set[str]:
    probe_events = probe_event.new_probe_events()
    for tries_left in range(TRIES - 1, -1, -1):
        try:
            with connect(database_url, timeout=10) as connection:
                connection.execute("SET LOCAL lock_timeout = '5s'")
                restore_tables(connection)
                probe_event.insert(connection, service, probe_events)
                break
        except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable) as error:
            # A transaction that reads several tables can block or deadlock the truncation of all tables.
            if not tries_left:
                raise
            if isinstance(error, psycopg.errors.LockNotAvailable):
                _terminate_idle_sessions(database_url)
    return {event_id for event_id, _ in probe_events}


def _terminate_idle_sessions(database_url: str) -> None:
    """Terminate sessions with an idle transaction: an interrupted lesson would hold its locks forever."""
    with connect(database_url, autocommit=True, timeout=10) as connection:
        connection.execute(TERMINATE_IDLE_SESSIONS)


def _move_group(kafka: str, group: str, seen: dict[tuple[str, int], int]) -> None:
    """Commit the group's offsets past the probe events, in every topic that it has read."""
    topics = {topic for topic, _ in consumer_groups.committed_offsets(kafka, group)}
    offsets = {key: offset + 1 for key, offset in seen.items() if key[0] in topics}
    if offsets:
        consumer_groups.commit_offsets(kafka, group, offsets)
