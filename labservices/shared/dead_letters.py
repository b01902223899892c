"""The dead-letter topic: where a service tells that it has given a record up.

This is the one thing that a service sends to Kafka itself. It may come twice, if the process dies between the broker's
answer and the note in the database; topic, partition and offset tell that it is the same.
"""

from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from labservices.shared.parking import Parked

PATIENCE = 5.0
"""Seconds within which the broker has to say that it has the record."""

ROOM = 2 * 1024 * 1024
"""Bytes of the largest dead letter: the largest record that the broker takes, and what is written on it."""


class BrokerAway(Exception):
    """The broker did not confirm in time. It may have the record all the same."""


class DeadLetters:
    """Writes the dead letters of one service.

    Parameters
    ----------
    service
        Its name; the topic is ``SERVICE.dlq``.
    producer_settings
        How the broker is reached.
    """

    def __init__(self, service: str, producer_settings: dict[str, Any]) -> None:
        self._service = service
        self._settings = producer_settings
        self._producer: Producer | None = None

    def send(self, parked: Parked) -> None:
        """Write one record to the dead-letter topic, as it was, with what happened in headers.

        Raises
        ------
        BrokerAway
            When the broker does not confirm it.
        """
        if self._producer is None:
            self._producer = Producer(
                self._settings
                | {"enable.idempotence": True, "message.timeout.ms": int(PATIENCE * 1000), "message.max.bytes": ROOM}
            )
        record = parked.record
        story = {
            "dlq.service": self._service,
            "dlq.topic": record.topic,
            "dlq.partition": str(record.partition),
            "dlq.offset": str(record.offset),
            "dlq.error": parked.error or "",
            "dlq.attempts": str(parked.attempts),
            "dlq.time": datetime.now(UTC).isoformat(),
            "dlq.id": f"{self._service}-{parked.parking_id}",
        }
        answers: list[KafkaError | None] = []

        def note(error: KafkaError | None, _: Message) -> None:
            answers.append(error)

        try:
            headers: dict[str, str | bytes | None] = {**record.headers, **story}
            self._producer.produce(f"{self._service}.dlq", record.value, record.key, headers=headers, on_delivery=note)
            self._producer.flush(PATIENCE + 1)
        except (KafkaException, BufferError) as error:
            raise BrokerAway(str(error)) from error
        if not answers or answers[0] is not None:
            raise BrokerAway(str(answers[0]) if answers else "no answer in time")
