"""A bounded read of topics with confluent-kafka."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.building.trial import LOOP_SECONDS
from labkit.exercises.own_code import CodeExercise, Rejected, describe, run_loop


class ReadToTheEnd(CodeExercise):
    """A reader of a topic's past needs no group: it assigns partitions, from their start to their end."""

    name = "read-to-the-end"
    title = "Read all events of one order from Kafka, with a client that works anywhere"
    level = 2
    minutes = 10
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
        found: list[Any] = []
        raised = run_loop(
            lambda: found.append(events_of(bench.lab.endpoints.kafka, bench.given.order)),
            seconds=LOOP_SECONDS,
            ends=lambda: "Does it wait for more records? Each partition has an end: enable.partition.eof reports it.",
        )
        if raised:
            raise Rejected(describe(events_of, raised))
        types = found[0]
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
        return right(
            f"{len(types)} events of one order, from {len(set(types))} types in four topics, and no offset was "
            "committed."
        )
