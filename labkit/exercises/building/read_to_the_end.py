"""A bounded read of topics with confluent-kafka."""

from __future__ import annotations

from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, Message

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.building.trial import LOOP_SECONDS
from labkit.exercises.own_code import CodeExercise, Function, Rejected, describe, replacing, run_loop


class HesitantConsumer(Consumer):
    """A consumer of a busy broker: nothing has arrived yet at its first poll and at each third one after it."""

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self._polls = 0

    def _hesitates(self) -> bool:
        self._polls += 1
        return self._polls % 3 == 1

    def poll(self, timeout: float = -1) -> Message | None:
        """Return the next message, or None at every third call."""
        return None if self._hesitates() else super().poll(timeout)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Return the next messages, or none at every third call."""
        return [] if self._hesitates() else super().consume(num_messages, timeout)


class ReadToTheEnd(CodeExercise):
    """A reader of a topic's past needs no group: it assigns partitions, from their start to their end."""

    name = "read-to-the-end"
    title = "Read all events of one order from Kafka, with a client that works anywhere"
    level = 2
    minutes = 25
    functions = ("events_of(address, order_id)",)
    hints = (
        "The events are in four topics of four partitions each; an order's are where its key is. How does your loop "
        "know that it has read everything, and is not just waiting for a slow broker?",
        'Consumer({..., "enable.partition.eof": True}) reports the end of each partition as a message with an error(). '
        "list_topics(topic).topics[topic].partitions has the partitions; assign([TopicPartition(topic, p, "
        "OFFSET_BEGINNING), ...]) joins no group.",
        'It begins:\n    consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking",\n'
        '                         "enable.auto.commit": False, "enable.partition.eof": True})',
    )
    answer = """
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        TOPICS = ["order.events", "inventory.events", "payment.events", "shipping.events"]

        def events_of(address, order_id):
            consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking",
                                 "enable.auto.commit": False, "enable.partition.eof": True})
            places = [TopicPartition(topic, partition, OFFSET_BEGINNING)
                      for topic in TOPICS
                      for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
            consumer.assign(places)
            found, ended = [], 0
            while ended < len(places):
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    ended += 1
                elif message.key() == order_id.encode():
                    found.append(dict(message.headers())["ce_type"].decode())
            consumer.close()
            return found

        answer = events_of
    """
    why = (
        "Reading a topic is no consumption: nothing is removed, no group is needed, and no offset is committed. "
        "assign() takes partitions without a group; subscribe() would join one, and in a service's group it would "
        "take partitions away from that service. poll() returns None when nothing has come yet, which is not the "
        "end; the end of a partition is an event of its own, or a comparison with get_watermark_offsets()."
    )
    mistakes = (
        Wrong(
            """
            from confluent_kafka import Consumer

            def events_of(address, order_id):
                consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking"})
                consumer.subscribe(["order.events", "inventory.events", "payment.events", "shipping.events"])
                found = []
                while (message := consumer.poll(0.1)) is not None:
                    found.append(message)
                consumer.close()
                return found

            answer = events_of
            """,
            "which is not the end",
        ),
        Wrong(
            """
            from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

            def events_of(address, order_id):
                consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking"})
                topics = [f"{name}.events" for name in ("order", "inventory", "payment", "shipping")]
                consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in range(4)])
                found = []
                while (message := consumer.poll(3)) is not None:
                    if message.key() == order_id.encode():
                        found.append(dict(message.headers())["ce_type"].decode())
                consumer.close()
                return found

            answer = events_of
            """,
            "on a busy broker",
        ),
        Wrong(
            """
            from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

            def events_of(address, order_id):
                consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking",
                                     "enable.partition.eof": True})
                consumer.assign([TopicPartition("order.events", number, OFFSET_BEGINNING) for number in range(4)])
                found, ended = [], 0
                while ended < 4:
                    message = consumer.poll(1)
                    if message and message.error():
                        ended += 1
                    elif message and message.key() == order_id.encode():
                        found.append(dict(message.headers())["ce_type"].decode())
                consumer.close()
                return found

            answer = events_of
            """,
            "missing",
        ),
        Wrong(
            """
            from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

            def events_of(address, order_id):
                consumer = Consumer({"bootstrap.servers": address, "group.id": "just-looking",
                                     "enable.partition.eof": True})
                topics = [f"{name}.events" for name in ("order", "inventory", "payment", "shipping")]
                consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for topic in topics for n in range(4)])
                found, ended = [], 0
                while ended < 16:
                    message = consumer.poll(1)
                    if message and message.error():
                        ended += 1
                    elif message:
                        found.append((dict(message.headers() or []).get("ce_type") or b"").decode())
                consumer.close()
                return found

            answer = events_of
            """,
            "other orders",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        # Another order, so that a topic never has the events of one order alone.
        other = bench.shop.place_order("ada", "lisbon", {"earl-grey": 1})
        order = bench.shop.follow(bench.shop.place_order("frances", "berlin", {"sencha": 1}))
        bench.look.wait_for_rest([other.order_id, order.order_id])
        facts = {"order": order.order_id, "address": bench.lab.endpoints.kafka}
        return f"{order}; the broker listens at given.address.", facts

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (events_of,) = functions
        types = self._read(bench, events_of)
        expected = [view.record.type for view in bench.look.kafka.records(bench.given.order)]
        if not isinstance(types, list | tuple):
            raise Rejected(f"events_of returns {types!r}; it should return a list of event types.")
        if not types:
            raise Rejected(
                "No event. Did you compare a key with a str? message.key() returns bytes. If not: a first poll returns "
                "None while the client connects, which is not the end; and a new group starts at the end of each "
                "partition, unless auto.offset.reset says otherwise."
            )
        if len(types) > len(expected):
            raise Rejected(
                f"{len(types)} events, and {len(expected)} of this order: the rest belongs to other orders. Compare "
                "keys."
            )
        if missing := set(expected) - set(map(str, types)):
            raise Rejected(
                f"{', '.join(sorted(missing))} is missing: an auditor would see half of the saga. Which topics are "
                "there?"
            )
        with replacing(events_of, confluent_kafka, Consumer, HesitantConsumer):
            hesitant = self._read(bench, events_of)
        if not isinstance(hesitant, list | tuple) or sorted(map(str, hesitant)) != sorted(map(str, types)):
            number = len(hesitant) if isinstance(hesitant, list | tuple) else 0
            raise Rejected(
                f"The same function on a busy broker, where poll() now and then returns None for a moment: {number} of "
                f"{len(types)} events, and no error. An auditor would miss the rest. None means that nothing has come "
                "yet, which is not the end of a partition: enable.partition.eof reports the end."
            )
        return right(
            f"{len(types)} events of one order, from {len(set(types))} types in four topics, and no offset was "
            "committed."
        )

    def _read(self, bench: Bench, events_of: Function) -> Any:
        """Run the learner's function, and return its result."""
        found: list[Any] = []
        raised = run_loop(
            lambda: found.append(events_of(bench.lab.endpoints.kafka, bench.given.order)),
            seconds=LOOP_SECONDS,
            ends=lambda: (
                "Does it wait for more records? Each partition has an end: enable.partition.eof reports it. Or does it "
                "read one partition after another? One assign() of all of them takes a tenth of the time."
            ),
        )
        if raised:
            raise Rejected(describe(events_of, raised))
        return found[0]
