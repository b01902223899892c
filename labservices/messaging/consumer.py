"""The consumer: polls records from Kafka, handles each one, and then commits the offsets.

The order of these steps matters. A committed offset means that all records before it are handled, so the consumer
commits it only after the database transaction. If the process dies in between, Kafka delivers some records again, and
the inbox rejects the duplicates.
"""

import logging
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from labservices.messaging.handling import Outcome, RecordHandling, RetryLater
from labservices.messaging.joining import JoinCheck
from labservices.record import Record, read_message
from labservices.service import Service
from labservices.settings import Settings
from labservices.storage.unavailable import DatabaseUnavailable

log = logging.getLogger(__name__)
_librdkafka_log = logging.getLogger("librdkafka")
_librdkafka_log.setLevel(logging.CRITICAL)  # it logs every connection attempt; the health checks report the same once

COMMIT_EVERY = 0.2
"""Seconds between two commits of offsets, while there are offsets to commit."""

CHECK_EVERY = 1.0
"""Seconds between two checks for parked records, unless one is due earlier."""

UNAVAILABLE_RETRY = 0.5
"""Seconds until the next retry while the database or the broker is unavailable."""

CLOSE_TIMEOUT = 5.0
"""Seconds to wait while the client leaves the group. If the broker restarts while the client joins, its ``close()``
waits for a response that never comes."""

STUCK_AFTER = 30.0
"""Seconds without a poll after which the state is ``stuck``."""

POLL_TIMEOUT = 0.1
"""Maximum duration of one poll in seconds, so that a request to pause or stop takes effect soon."""

FETCH_BYTES = 8 * 1024 * 1024
"""Maximum size of a response of the broker, and of the records that the client buffers, in bytes."""

Partition = tuple[str, int]


@dataclass
class Held:
    """The records of one partition that wait for the database, or for a retry of the first one."""

    records: deque[Record]
    due: float


def client_settings(service: Service, settings: Settings) -> dict[str, Any]:
    """Return the connection and reconnection settings of a Kafka client."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "client.id": service.name,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        "socket.timeout.ms": 5000,
    }


def producer_settings(service: Service, settings: Settings) -> dict[str, Any]:
    """Return the settings of a producer, with the same key partitioning as Kafka's Java clients and Debezium."""
    return client_settings(service, settings) | {"partitioner": "murmur2_random"}


class EventConsumer:
    """The consumer loop of one service, which runs in a separate thread.

    A record that can't be handled is parked in the database, and its partition continues (see ``parking.py``). The same
    thread retries the parked records. While the database is unavailable, every partition waits, and no attempt is
    counted against a record.
    """

    def __init__(self, service: Service, settings: Settings, handling: RecordHandling) -> None:
        self._service = service
        self._settings = settings
        self._handling = handling
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._changed = threading.Condition()
        self._paused = False
        self._stopping = False
        self._consuming = False
        self._admin: AdminClient | None = None
        self._assigned: set[Partition] = set()
        self._held: dict[Partition, Held] = {}
        self._handled_offsets: dict[Partition, int] = {}
        self._positions: dict[Partition, int] = {}
        self._commit_due = 0.0
        self._check_due = 0.0
        self._join = JoinCheck(client_settings(service, settings), service.topics[0], _librdkafka_log)
        self._polled = 0.0
        self._blocked = ""  # the state to report while records must wait

    # --- called from other threads

    def start(self) -> None:
        """Start consuming."""
        self._thread.start()

    def stop(self, timeout: float = 1.5) -> None:
        """Finish the current record, commit, and leave the group, waiting at most ``timeout`` seconds."""
        self._request(stopping=True)
        if self._thread.ident:
            self._thread.join(timeout)

    def pause(self, timeout: float = 4.0) -> bool:
        """Finish the current record, commit, and leave the group; return whether this finished in time.

        If it did not, the log gets the stack of the consumer's thread.
        """
        self._request(paused=True)
        with self._changed:
            finished = self._changed.wait_for(lambda: not self._consuming, timeout)
        if not finished:
            frame = sys._current_frames().get(self._thread.ident or 0)
            stack = "".join(traceback.format_stack(frame)) if frame else "no thread"
            log.warning("the consumer has not paused within %g s; it is here:\n%s", timeout, stack)
        return finished

    def resume(self) -> None:
        """Join the group again."""
        self._request(paused=False)

    def state(self) -> dict[str, Any]:
        """Return the state of the consumer for display."""
        now = time.monotonic()
        if not self._consuming:
            state = "paused" if self._paused else "stopped" if self._stopping else "starting"
        elif now - self._polled > STUCK_AFTER:
            state = "stuck"
        elif self._blocked:
            state = self._blocked
        else:
            state = "running" if self._join.is_joined else "joining the group"
        return {
            "state": state,
            "assigned": [{"topic": topic, "partition": number} for topic, number in sorted(self._assigned)],
            "held": [
                {
                    "topic": topic,
                    "partition": number,
                    "offset": held.records[0].offset,
                    "retry_in_seconds": round(max(0.0, held.due - now), 1),
                }
                for (topic, number), held in sorted(self._held.copy().items())
            ],
        }

    def check_parked_records(self) -> None:
        """Check soon whether a parked record is due."""
        self._check_due = 0.0

    def check_broker(self, timeout: float) -> None:
        """Check that the broker responds.

        Parameters
        ----------
        timeout
            Seconds to wait for the response.

        Raises
        ------
        KafkaException
            If the broker does not respond in time.
        """
        # Not with the consumer itself: its list_topics() never returns while another thread is inside poll().
        if self._admin is None:
            self._admin = AdminClient(client_settings(self._service, self._settings), logger=_librdkafka_log)
        self._admin.list_topics(self._service.topics[0], timeout)

    def _request(self, *, paused: bool | None = None, stopping: bool = False) -> None:
        with self._changed:
            self._paused = self._paused if paused is None else paused
            self._stopping = self._stopping or stopping
            self._changed.notify_all()

    # --- the thread

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or not self._paused)
                self._consuming = not self._stopping
            if self._consuming:
                try:
                    self._consume()
                except Exception:  # a consumer that stops silently would be worse than any error
                    log.exception("the consumer failed; it rejoins its group")
                    time.sleep(UNAVAILABLE_RETRY)
                with self._changed:
                    self._consuming = False
                    self._changed.notify_all()

    def _consume(self) -> None:
        consumer = self._subscribe()
        log.info("%s consumes %s", self._service.name, ", ".join(self._service.topics))
        try:
            while not (self._stopping or self._paused):
                self._retry_held_records(consumer)
                self._try_parked()
                self._polled = time.monotonic()
                message = consumer.poll(POLL_TIMEOUT)
                if message is not None:
                    self._receive(consumer, message)
                elif self._join.timed_out():  # after the poll, which delivers an assignment
                    break
                if self._handled_offsets and time.monotonic() >= self._commit_due:
                    self._commit(consumer)
        finally:
            self._commit(consumer)
            self._close(consumer)
            self._forget(self._assigned)

    def _receive(self, consumer: Consumer, message: Message) -> None:
        error = message.error()
        if error and error.code() == KafkaError._PARTITION_EOF:
            self._note_end((message.topic() or "", message.partition() or 0), message.offset() or 0)
            return
        if error:  # a missing topic or an unavailable broker: librdkafka retries by itself
            log.debug("Kafka: %s", error)
            return
        record = read_message(message)
        partition = (record.topic, record.partition)
        if partition in self._held:  # not expected, since the client discards what it has fetched of a paused partition
            self._held[partition].records.append(record)
        elif not self._handle(record):
            self._held[partition] = Held(deque([record]), time.monotonic() + UNAVAILABLE_RETRY)
            consumer.pause([TopicPartition(*partition)])

    def _note_end(self, partition: Partition, end: int) -> None:
        """Commit the end of a partition if it lies beyond the last record.

        Offsets in between belong to records that no consumer receives: the markers that end a transaction, and aborted
        records. Without this commit they would count as lag for ever.
        """
        is_current = partition in self._assigned and partition not in self._held
        if is_current and end > self._positions.get(partition, 0):
            self._note_position(partition, end)

    def _note_position(self, partition: Partition, offset: int) -> None:
        """Commit this offset of a partition soon."""
        if not self._handled_offsets:
            self._commit_due = time.monotonic() + COMMIT_EVERY
        self._handled_offsets[partition] = self._positions[partition] = offset

    def _handle(self, record: Record) -> bool:
        """Handle or park one record; return False if it must be retried, as while the database is unavailable."""
        try:
            outcome = self._handling.handle(record)
        except (DatabaseUnavailable, RetryLater) as error:
            self._note_blocked(error)
            return False
        if outcome is Outcome.FAILED:
            self._check_due = 0.0
        if outcome is not Outcome.IGNORED:  # an ignored record needs no database
            self._note_unblocked()
        self._note_position((record.topic, record.partition), record.offset + 1)
        return True

    def _try_parked(self) -> None:
        """Retry the parked records that are due, for at most ``COMMIT_EVERY`` seconds before the next poll."""
        now = time.monotonic()
        if now < self._check_due:
            return
        try:
            while self._handling.try_parked() is not None:
                if time.monotonic() > now + COMMIT_EVERY:
                    return
            wait = self._handling.seconds_until_due()
        except DatabaseUnavailable as error:
            self._note_blocked(error)
            wait = UNAVAILABLE_RETRY
        self._check_due = time.monotonic() + (CHECK_EVERY if wait is None else min(wait, CHECK_EVERY))

    def _note_blocked(self, error: DatabaseUnavailable | RetryLater) -> None:
        state = "waiting for the database" if isinstance(error, DatabaseUnavailable) else "retrying a record"
        if self._blocked != state:
            log.warning("%s: %s", state, error)
        self._blocked = state

    def _note_unblocked(self) -> None:
        if self._blocked:
            log.info("records are handled again")
        self._blocked = ""

    def _retry_held_records(self, consumer: Consumer) -> None:
        for partition, held in list(self._held.items()):
            if held.due > time.monotonic():
                continue
            while held.records and self._handle(held.records[0]):
                held.records.popleft()
            if held.records:
                held.due = time.monotonic() + UNAVAILABLE_RETRY
            else:
                del self._held[partition]
                consumer.resume([TopicPartition(*partition)])

    # --- Kafka

    def _subscribe(self) -> Consumer:
        consumer = Consumer(
            client_settings(self._service, self._settings)
            | {
                "group.id": self._service.name,
                "enable.auto.commit": False,
                "on_commit": self._on_commit,
                "auto.offset.reset": "earliest",
                "fetch.max.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": FETCH_BYTES // 1024,
                "enable.partition.eof": True,
                "session.timeout.ms": self._settings.consumer_session_timeout_ms,
                "heartbeat.interval.ms": self._settings.consumer_heartbeat_interval_ms,
                "topic.metadata.refresh.interval.ms": 2000,  # a topic that is created later is found within this time
            },
            logger=_librdkafka_log,
        )
        self._polled = time.monotonic()
        self._join.expect_assignment()
        consumer.subscribe(
            self._service.topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        return consumer

    def _commit(self, consumer: Consumer) -> None:
        """Commit the offsets of the handled records.

        Nothing waits for the response: a synchronous commit has no timeout, and it can block for ever while the broker
        restarts. It is not needed either. The client sends its requests to the group in order, so the broker has the
        offsets before it assigns the partitions to another consumer.
        """
        if not self._handled_offsets:
            return
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in self._handled_offsets.items()]
        self._handled_offsets.clear()
        try:
            consumer.commit(offsets=offsets)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _close(self, consumer: Consumer) -> None:
        """Leave the group, and wait for the response to the last commit; a client that hangs is abandoned."""
        closing = threading.Thread(target=consumer.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT)
        if closing.is_alive():
            log.warning("the Kafka client has not left the group within %g s; it is abandoned", CLOSE_TIMEOUT)

    # --- callbacks of the Kafka client; its close() calls them in a separate thread, where they do nothing

    def _is_closing(self) -> bool:
        return threading.current_thread() is not self._thread

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """Schedule another attempt if a commit failed; the inbox rejects records that arrive twice because of it."""
        if error is None or self._is_closing():
            return
        log.warning("the offset commit failed; it is retried for the assigned partitions: %s", error)
        self._commit_due = time.monotonic() + UNAVAILABLE_RETRY
        for one in offsets:
            if (one.topic, one.partition) in self._assigned:
                self._handled_offsets.setdefault((one.topic, one.partition), one.offset)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._is_closing():
            return
        self._join.note_assignment()
        self._assigned |= {(one.topic, one.partition) for one in partitions}
        log.debug("assigned: %s", sorted(self._assigned))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._is_closing():
            return
        self._commit(consumer)  # the partition's next owner must start after the handled records
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._is_closing():
            return
        self._join.expect_assignment()
        lost = {(one.topic, one.partition) for one in partitions}
        # The Kafka client keeps a partition paused after its loss; if reassigned, it would deliver no records.
        consumer.resume([TopicPartition(*partition) for partition in lost & self._held.keys()])
        self._forget(lost)

    def _forget(self, partitions: set[Partition]) -> None:
        for partition in list(partitions):
            self._assigned.discard(partition)
            self._held.pop(partition, None)
            self._handled_offsets.pop(partition, None)
            self._positions.pop(partition, None)
