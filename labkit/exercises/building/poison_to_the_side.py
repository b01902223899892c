"""A consumer loop with dead letters."""

from __future__ import annotations

from typing import Any

from labkit.client.practice import Practice
from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.building.trial import TOO_SMALL, HandlerTrial, trial
from labkit.exercises.own_code import CodeExercise, Rejected, describe
from labstack.clients import practice
from labstack.clients.broker import Record


class PoisonToTheSide(CodeExercise):
    """A dead letter is published, and acknowledged, before its offset is committed."""

    name = "poison-to-the-side"
    title = "Write a consumer that puts a poison record aside, and loses neither that record nor the next"
    level = 3
    minutes = 26
    functions = ("consume(settings, topic, dead_letters, handle, running)",)
    hints = (
        "`except Exception` around handle(message): what must have happened to the record before its offset may be "
        "committed? Read the headers of a dead letter in the lesson.",
        "Producer.produce(dead_letters, message.value(), message.key(), headers={...}, on_delivery=...), then "
        "flush(): it returns when the broker has answered. The answer is the first argument of the callback: an error, "
        "or None. (ProcessDied is no fault of the record: `except ValueError` lets it through.)",
        'It begins:\n    producer = Producer({"bootstrap.servers": settings["bootstrap.servers"]})',
    )
    answer = """
        from confluent_kafka import Consumer, KafkaException, Producer

        def consume(settings, topic, dead_letters, handle, running):
            producer = Producer({"bootstrap.servers": settings["bootstrap.servers"]})
            consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
            consumer.subscribe([topic])

            def dead_letter(message, error):
                headers = {"dlq.topic": message.topic(), "dlq.partition": str(message.partition()),
                           "dlq.offset": str(message.offset()), "dlq.error": repr(error)}
                failures = []
                producer.produce(dead_letters, message.value(), message.key(), headers=headers,
                                 on_delivery=lambda failure, _: failures.append(failure))
                if producer.flush(10) or failures[0]:
                    raise KafkaException(failures[0] if failures else "no answer")

            try:
                while running():
                    message = consumer.poll(0.1)
                    if message is None:
                        continue
                    if message.error():
                        raise KafkaException(message.error())
                    try:
                        handle(message)
                    except ValueError as error:
                        dead_letter(message, error)
                    consumer.commit(message=message, asynchronous=False)
            finally:
                consumer.close()

        answer = consume
    """
    why = (
        "The dead-letter topic takes over the responsibility for the record, so its acknowledgement must come before "
        "the commit. produce() only fills a buffer; flush() without a look at the delivery report does not know "
        "whether the broker took the record. If it did not, the consumer must stop rather than commit: a loud failure "
        "instead of a silent loss."
    )
    mistakes = (
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, dead_letters, handle, running):
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            try:
                                handle(message)
                            except ValueError:
                                pass
                            consumer.commit(message=message, asynchronous=False)
                finally:
                    consumer.close()

            answer = consume
            """,
            "nowhere",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, dead_letters, handle, running):
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            while running():
                                try:
                                    handle(message)
                                    break
                                except ValueError:
                                    continue
                            consumer.commit(message=message, asynchronous=False)
                finally:
                    consumer.close()

            answer = consume
            """,
            "stands still",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer, Producer

            def consume(settings, topic, dead_letters, handle, running):
                producer = Producer({"bootstrap.servers": settings["bootstrap.servers"]})
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            try:
                                handle(message)
                            except ValueError as error:
                                producer.produce(dead_letters, message.value(), message.key())
                                producer.flush()
                            consumer.commit(message=message, asynchronous=False)
                finally:
                    consumer.close()

            answer = consume
            """,
            "headers",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer, Producer

            def consume(settings, topic, dead_letters, handle, running):
                producer = Producer({"bootstrap.servers": settings["bootstrap.servers"]})
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            try:
                                handle(message)
                            except ValueError as error:
                                where = {"topic": message.topic(), "partition": str(message.partition()),
                                         "offset": str(message.offset()), "error": str(error)}
                                producer.produce(dead_letters, message.value(), message.key(), headers=where)
                                producer.flush()
                            consumer.commit(message=message, asynchronous=False)
                finally:
                    consumer.close()

            answer = consume
            """,
            "refused",
        ),
    )
    needs_setup = False

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (consume,) = functions
        shop = Practice(bench.lab)
        dead_letters, refusing = shop.topic(partitions=1), practice.make_topic(shop.kafka, 1, settings=TOO_SMALL)
        try:
            with trial(bench, "order 1", "poison", "order 3") as one:
                one.poison = "poison"
                raised = one.run(consume, dead_letters)
                if one.is_endless:
                    raise Rejected(
                        "poison is tried again and again, and order 3 waits behind it: the partition stands still, "
                        "for every customer in it."
                    )
                if raised:
                    raise Rejected(describe(consume, raised))
                self._judge_letters(shop.read(dead_letters), one)
                if one.committed < len(one.values):
                    raise Rejected(
                        f"Only {one.committed} of 3 offsets are committed: a restart handles the rest again."
                    )
            with trial(bench, "poison", "order 2") as other:
                other.poison = "poison"
                raised = other.run(consume, refusing)
                if not raised or other.committed:
                    raise Rejected(
                        "The broker refused the dead letter, which was too large for its topic, and your consumer went "
                        "on: the record is in neither topic, and its offset is committed. Look at the delivery report."
                    )
        finally:
            shop.remove(dead_letters)
            shop.remove(refusing)
        return right(
            "Both good records are handled, the poison one is a dead letter with its origin, and nothing is lost."
        )

    def _judge_letters(self, letters: list[Record], one: HandlerTrial) -> None:
        if not letters:
            raise Rejected(
                "order 1 and order 3 are handled, and poison is nowhere: not handled, not in the dead-letter topic, "
                "and its offset is committed. Its customer waits forever."
            )
        (letter, *more) = letters
        if more:
            raise Rejected(f"The dead-letter topic has {len(letters)} records; one record failed.")
        if (letter.key, letter.value) != ("key-poison", b"poison"):
            raise Rejected("The dead letter has another key or value: a replay would handle another record.")
        headers = " ".join(str(value) for value in letter.headers.values())
        if one.topic not in headers or "not an order" not in headers:
            raise Rejected(
                "The dead letter does not say in its headers from which topic, partition and offset it comes, and "
                "which error it caused: an operator would have to search the logs."
            )
