"""Detection of a join that the broker has lost."""

import logging
import time
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

JOIN_CHECK = 5.0
"""Seconds between two checks of the broker while no partition is assigned. If it responds to two checks in a row, the
consumer joins again. A broker that was suspended and resumes can lose a join request, and the client would wait
``max.poll.interval.ms`` (five minutes) for the response."""


class JoinCheck:
    """Checks whether the group assigns partitions while the broker responds.

    Parameters
    ----------
    client_settings
        The configuration of the Kafka clients.
    topic
        A topic that the consumer reads.
    logger
        Receives the messages of the Kafka client.
    """

    def __init__(self, client_settings: dict[str, Any], topic: str, logger: logging.Logger) -> None:
        self._settings = client_settings
        self._topic = topic
        self._logger = logger
        self._due: float | None = None  # None while partitions are assigned
        self._responded = False  # at the last check

    @property
    def is_joined(self) -> bool:
        """Whether the group has assigned partitions."""
        return self._due is None

    def expect_assignment(self) -> None:
        """Note that the consumer has no partitions, and waits for an assignment."""
        self._due = time.monotonic() + JOIN_CHECK
        self._responded = False

    def note_assignment(self) -> None:
        """Note that the group has assigned partitions."""
        self._due = None

    def timed_out(self) -> bool:
        """Report whether the group has assigned no partition although the broker responds."""
        if self._due is None or time.monotonic() < self._due:
            return False
        # With a new client: the consumer's own may never reconnect after a crash of the broker.
        newcomer = AdminClient(self._settings, logger=self._logger)
        try:
            newcomer.list_topics(self._topic, timeout=1)
            responds = True
        except KafkaException:
            responds = False
        timed_out = responds and self._responded
        self._responded = responds
        self._due = time.monotonic() + JOIN_CHECK
        if timed_out:
            log.warning("the broker responds, but the group assigned no partition; rejoining it")
        return timed_out
