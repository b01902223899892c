"""The dead-letter topic: the destination of records that a service can't handle.

Dead letters are the only records that a service sends to Kafka directly. One may be sent twice if the process dies
between the broker's acknowledgement and the database commit; its topic, partition and offset identify the duplicate.
"""

from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from labservices.messaging.parking import Parked

TIMEOUT = 5.0
"""Seconds within which the broker must acknowledge the record."""

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""Maximum size of a dead letter in bytes: enough for the largest event (`MAX_RECORD_BYTES`) and the added headers."""


RECORD_ERRORS = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError._INVALID_ARG,
    KafkaError._BAD_MSG,
}
"""Errors whose cause is the record itself, so that a retry fails in the same way."""


class BrokerUnavailable(Exception):
    """The broker did not acknowledge the record in time. It may have stored it nevertheless."""


class RecordRefused(Exception):
    """The topic can never hold the record, for example because the record is too large."""


class DeadLetterPublisher:
    """Publishes the dead letters of one service.

    Parameters
    ----------
    service
        The service's name; the topic is ``SERVICE.dlq``.
    producer_settings
        The configuration of the Kafka producer.
    """

    def __init__(self, service: str, producer_settings: dict[str, Any]) -> None:
        self._service = service
        self._settings = producer_settings
        self._producer: Producer | None = None

    def send(self, parked: Parked) -> None:
        """Publish one record unchanged to the dead-letter topic, with the failure described in headers.

        Raises
        ------
        BrokerUnavailable
            If the broker does not acknowledge the record in time.
        RecordRefused
            If the client or the broker refuses this record.
        """
        if self._producer is None:
            self._producer = Producer(
                self._settings
                | {
                    "enable.idempotence": True,
                    "message.timeout.ms": int(TIMEOUT * 1000),
                    "message.max.bytes": MAX_MESSAGE_BYTES,
                }
            )
        record = parked.record
        description = {
            "dlq.service": self._service,
            "dlq.topic": record.topic,
            "dlq.partition": str(record.partition),
            "dlq.offset": str(record.offset),
            "dlq.error": parked.error or "",
            "dlq.attempts": str(parked.attempts),
            "dlq.time": datetime.now(UTC).isoformat(),
            "dlq.id": f"{self._service}-{parked.parking_id}",
        }
        results: list[KafkaError | None] = []

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            results.append(error)

        try:
            headers: dict[str, str | bytes | None] = {**record.headers, **description}
            self._producer.produce(
                f"{self._service}.dlq", record.value, record.key, headers=headers, on_delivery=on_delivery
            )
            self._producer.flush(TIMEOUT + 1)
        except KafkaException as error:
            results.append(error.args[0])
        except BufferError as error:
            raise BrokerUnavailable(str(error)) from error
        if not results:
            raise BrokerUnavailable("no acknowledgement in time")
        if (failure := results[0]) is not None:
            raise (RecordRefused if failure.code() in RECORD_ERRORS else BrokerUnavailable)(str(failure))
