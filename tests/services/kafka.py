"""A Kafka broker for tests: the one inside librdkafka, which speaks Kafka's protocol on a port of 127.0.0.1.

It starts in milliseconds, knows topics, groups and committed offsets, and can be told to refuse or delay requests.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, Producer, TopicPartition, cimpl

from labservices.record import Record, read_message
from labservices.settings import Settings

PARTITIONS = 2
_PRODUCE, _OFFSET_COMMIT = 0, 8  # the numbers of the requests in Kafka's protocol
_REFUSED = 44  # POLICY_VIOLATION, which no client repeats
_QUIET = {"log_level": 0}


def _library() -> ctypes.CDLL:
    """Return librdkafka, which the extension module of confluent-kafka links."""
    library = ctypes.CDLL(cimpl.__file__)
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    signatures = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (number, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [number, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, number]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (number, [pointer, text, number, number]),
        "rd_kafka_mock_partition_delete_records": (number, [pointer, text, ctypes.c_int32, ctypes.c_int64]),
        "rd_kafka_mock_push_request_errors_array": (None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        "rd_kafka_mock_broker_set_rtt": (number, [pointer, ctypes.c_int32, number]),
        "rd_kafka_mock_broker_set_down": (number, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (number, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaBroker:
    """A cluster of one broker, available at ``address`` until it is closed.

    Parameters
    ----------
    topics
        The topics to create, each with `PARTITIONS` partitions.
    """

    def __init__(self, *topics: str) -> None:
        self._library = _library()
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", None, 0)
        self._handle = self._library.rd_kafka_new(0, configuration, None, 0)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.address = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        for topic in topics:
            self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), PARTITIONS, 1)

    def close(self) -> None:
        """Close the port, and forget everything."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records of a partition before an offset."""
        self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, before)

    # --- faults

    def refuse_produce(self, times: int = 1) -> None:
        """Refuse the next produce requests with an error that no client repeats."""
        self._refuse(_PRODUCE, times)

    def refuse_commits(self, times: int = 1) -> None:
        """Refuse the next commits of offsets with an error that no client repeats."""
        self._refuse(_OFFSET_COMMIT, times)

    def _refuse(self, request: int, times: int) -> None:
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, times, (ctypes.c_int * times)(*[_REFUSED] * times)
        )

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Delay every response."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, int(seconds * 1000))
        try:
            yield
        finally:
            self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, 0)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Refuse every connection."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)
        try:
            yield
        finally:
            self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

    # --- records and offsets

    def settings(self, settings: Settings) -> Settings:
        """Return the settings with this broker's address."""
        return settings.model_copy(update={"kafka_bootstrap_servers": self.address})

    def write(self, *records: Record) -> None:
        """Append records to their partitions."""
        producer = Producer(_QUIET | {"bootstrap.servers": self.address, "linger.ms": 0})
        for one in records:
            producer.produce(one.topic, one.value, one.key, one.partition, headers=dict(one.headers))
        assert producer.flush(10) == 0

    def read(self, topic: str) -> list[Record]:
        """Return all records of a topic."""
        consumer = Consumer(
            _QUIET
            | {"bootstrap.servers": self.address, "group.id": "a test", "enable.partition.eof": True}
            | {"enable.auto.commit": False}
        )
        found: list[Record] = []
        ends = 0
        try:
            consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
            while ends < PARTITIONS:
                message = consumer.poll(10)
                assert message is not None, f"the broker did not return all records of {topic}"
                if message.error():
                    ends += 1
                else:
                    found.append(read_message(message))
        finally:
            consumer.close()
        return found

    def committed(self, group: str, topic: str) -> list[int | None]:
        """Return the committed offset of each partition of a topic, or None if there is none."""
        consumer = Consumer(_QUIET | {"bootstrap.servers": self.address, "group.id": group})
        try:
            found = consumer.committed([TopicPartition(topic, number) for number in range(PARTITIONS)], timeout=10)
        finally:
            consumer.close()
        return [None if one.offset < 0 else one.offset for one in found]
