"""Consumer lag: for each partition, the end of the log minus the committed offset of the group.

The lag is queried from the broker, not from the consumer, so that it is available when a consumer is paused, slow or
stopped.
"""

from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from prometheus_client.core import GaugeMetricFamily

from labservices.telemetry.gauges import Gauge, family

TIMEOUT = 2.0
LAG = Gauge("consumer_lag_records", "Records that the consumer group has not committed yet", ("topic", "partition"), "")


class Lag:
    """Queries the broker for the lag of one consumer group.

    Parameters
    ----------
    group
        The group's name.
    topics
        The topics that the group consumes.
    client_settings
        The configuration of the Kafka clients.
    """

    def __init__(self, group: str, topics: list[str], client_settings: dict[str, Any]) -> None:
        self._group = group
        self._topics = topics
        self._settings = client_settings
        self._admin: AdminClient | None = None
        self._consumer: Consumer | None = None
        self._partitions: list[TopicPartition] = []

    def query(self) -> list[GaugeMetricFamily]:
        """Return the current lag.

        Raises
        ------
        KafkaException
            If the broker does not respond.
        """
        if self._admin is None or self._consumer is None:
            self._admin = AdminClient(self._settings)
            # This consumer queries the group's offsets without joining the group. The admin client could query them
            # too, but it crashes the process (confluent-kafka 2.16) if a restarted broker does not know the group yet.
            self._consumer = Consumer(self._settings | {"group.id": self._group, "enable.auto.commit": False})
        if not self._partitions:
            known = self._admin.list_topics(timeout=TIMEOUT).topics
            existing = [(name, known[name]) for name in self._topics if name in known and not known[name].error]
            self._partitions = [TopicPartition(name, number) for name, topic in existing for number in topic.partitions]
        try:
            samples = self._samples(self._admin, self._consumer)
        except KafkaException:
            self._partitions = []  # the topics may have been recreated
            raise
        return [family(LAG, samples)]

    def _samples(self, admin: AdminClient, consumer: Consumer) -> list[tuple[tuple[str, ...], float]]:
        if not self._partitions:
            return []
        ends = admin.list_offsets(dict.fromkeys(self._partitions, OffsetSpec.latest()), request_timeout=TIMEOUT)
        committed = {_key(one): one.offset for one in consumer.committed(self._partitions, timeout=TIMEOUT)}
        # A group without a committed offset starts at the oldest record.
        new = [one for one in self._partitions if committed.get(_key(one), -1) < 0]
        starts = admin.list_offsets(dict.fromkeys(new, OffsetSpec.earliest()), request_timeout=TIMEOUT) if new else {}
        committed |= {_key(partition): _result(start).offset for partition, start in starts.items()}
        return [
            ((str(one.topic), str(one.partition)), max(0.0, float(_result(end).offset - committed[_key(one)])))
            for one, end in ends.items()
        ]


def _key(partition: TopicPartition) -> tuple[str, int]:
    return partition.topic, partition.partition


def _result(future: "Future[Any]") -> Any:
    return future.result(TIMEOUT)
