"""A topic, a group and a handler on which a learner's consumer is tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Message

from labkit.client.practice import Practice
from labkit.exercises.base import Bench
from labkit.exercises.own_code import Function, run_loop
from labstack.clients import consumer_groups, practice
from labstack.clients.broker import FAST_RECONNECT

LOOP_SECONDS = 12
"""How long a loop may take, including two rebalances of its group."""
CALLS = 12
"""The calls of the handler after which a loop counts as endless."""
TOO_SMALL = {"max.message.bytes": "16"}
"""The setting of a topic that refuses every record."""


class ProcessDied(Exception):
    """Stands for the death of the consumer's process."""


class HandlerTrial:
    """A topic with records, a group, and a handler that notes what it receives.

    Parameters
    ----------
    address : str
        The bootstrap server.
    topic : str
        The topic.
    values : tuple of str
        The values of its records, in order.
    """

    def __init__(self, address: str, topic: str, values: tuple[str, ...]) -> None:
        self.topic, self.values, self.group = topic, values, practice.new_name()
        self.settings = {
            "bootstrap.servers": address,
            "group.id": self.group,
            "session.timeout.ms": 6000,
            "fetch.wait.max.ms": 50,
            **FAST_RECONNECT,
        }
        self._address = address
        self.handled: list[str] = []
        self.dies_at = ""
        self.poison = ""
        self._calls = 0

    def handle(self, message: Message) -> None:
        """Handle a record, as the learner's loop calls it."""
        value = (message.value() or b"").decode()
        self._calls += 1
        if self._calls > CALLS:
            raise ProcessDied("too many calls")
        if value == self.dies_at:
            raise ProcessDied(value)
        if value == self.poison:
            raise ValueError(f"{value} is not an order")
        self.handled.append(value)

    def run(self, consume: Function, *topics: str, hint: str = "") -> Exception | None:
        """Run a learner's loop on the records, and return what it raised.

        Parameters
        ----------
        consume : callable
            The loop. Its parameters are settings, topic, the further topics, handle and running.
        *topics : str
            The further topics.
        hint : str, optional
            What to look at if the loop does not end.

        Raises
        ------
        Rejected
            The loop does not end.
        """

        def ends() -> str:
            handled = f"handled so far: {self.handled or 'none'}."
            return f"running() returns False once the last record is handled; {handled} {hint}".rstrip()

        further = (self.handle, self.running)
        return run_loop(consume, self.settings, self.topic, *topics, *further, seconds=LOOP_SECONDS, ends=ends)

    def running(self) -> bool:
        """Return whether the loop should go on: the last record is not handled yet."""
        return self.values[-1] not in self.handled and self._calls <= CALLS

    @property
    def is_endless(self) -> bool:
        """Whether the loop has called the handler far too often."""
        return self._calls > CALLS

    @property
    def committed(self) -> int:
        """The group's committed offset: the number of records that it will not read again."""
        return max(0, consumer_groups.committed_offsets(self._address, self.group).get((self.topic, 0), 0))


@contextmanager
def trial(bench: Bench, *values: str) -> Iterator[HandlerTrial]:
    """Create a topic of one partition with these records, and delete it with its group at the end."""
    shop = Practice(bench.lab)
    topic = shop.topic(partitions=1)
    try:
        shop.write(topic, [(f"key-{value}", value) for value in values])
        one = HandlerTrial(shop.kafka, topic, values)
        yield one
    finally:
        shop.remove(topic)
