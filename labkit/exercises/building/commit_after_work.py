"""A consumer loop."""

from __future__ import annotations

from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.building.trial import ProcessDied, trial
from labkit.exercises.own_code import CodeExercise, Function, Rejected, describe

HINT = "Does the loop read from the beginning (auto.offset.reset), and ask running()?"


class CommitAfterWork(CodeExercise):
    """A consumer commits an offset after the work, and closes itself."""

    name = "commit-after-work"
    title = "Write a consumer loop that loses no record when its process dies"
    level = 2
    minutes = 8
    functions = ("consume(settings, topic, handle, running)",)
    hints = (
        "A committed offset means: everything before it is done. When is that true? `enable.auto.commit` commits in "
        "the background, whatever your handler does.",
        "Consumer({**settings, ...}) with enable.auto.commit and auto.offset.reset; subscribe([topic]); poll(0.1); "
        "commit(message=..., asynchronous=False); close() in a `finally`, so that the group knows at once.",
        "It begins:\n    consumer = "
        'Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})',
    )
    answer = """
        from confluent_kafka import Consumer, KafkaException

        def consume(settings, topic, handle, running):
            consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
            consumer.subscribe([topic])
            try:
                while running():
                    message = consumer.poll(0.1)
                    if message is None:
                        continue
                    if message.error():
                        raise KafkaException(message.error())
                    handle(message)
                    consumer.commit(message=message, asynchronous=False)
            finally:
                consumer.close()

        answer = consume
    """
    why = (
        "Work, then commit: a crash in between delivers the record again, which the inbox recognises. Commit, then "
        "work: a crash in between loses it, and no other part of the system can notice. A commit after each record "
        "is the simplest way; at high rates, commit once for each batch that is done."
    )
    mistakes = (
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, handle, running):
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            consumer.commit(message=message, asynchronous=False)
                            handle(message)
                finally:
                    consumer.close()

            answer = consume
            """,
            "is lost",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, handle, running):
                consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            handle(message)
                finally:
                    consumer.close()

            answer = consume
            """,
            "enable.auto.commit",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, handle, running):
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                try:
                    while running():
                        message = consumer.poll(0.1)
                        if message is not None:
                            handle(message)
                finally:
                    consumer.close()

            answer = consume
            """,
            "every restart",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, handle, running):
                consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                while running():
                    message = consumer.poll(0.1)
                    if message is not None:
                        handle(message)
                consumer.close()

            answer = consume
            """,
            "every five seconds",
        ),
        Wrong(
            """
            from confluent_kafka import Consumer

            def consume(settings, topic, handle, running):
                consumer = Consumer({**settings, "enable.auto.commit": False, "auto.offset.reset": "earliest"})
                consumer.subscribe([topic])
                while running():
                    message = consumer.poll(0.1)
                    if message is not None:
                        try:
                            handle(message)
                        except Exception:
                            pass
                        consumer.commit(message=message, asynchronous=False)
                consumer.close()

            answer = consume
            """,
            "swallows",
        ),
    )
    needs_setup = False

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (consume,) = functions
        with trial(bench, "order 1", "order 2", "order 3", "order 4") as one:
            one.dies_at = "order 3"
            raised = one.run(consume, hint=HINT)
            if not one.handled and not isinstance(raised, ProcessDied):
                raise Rejected(
                    describe(consume, raised)
                    if raised
                    else "The loop ended before it handled a record. A first poll often returns None: the consumer "
                    "is still joining its group."
                )
            if not isinstance(raised, ProcessDied):
                raise Rejected(
                    "The process was to die while it handled order 3, but the loop swallows that error and goes on: "
                    "order 3 is never handled, and its offset is committed."
                )
            if one.committed > 2:
                how = (
                    "close() committed it, because enable.auto.commit is on by default"
                    if one.committed == 3 and "order 4" not in one.handled and not _commits(consume)
                    else "its offset is committed before the work is done. A commit() without arguments runs in the "
                    "background and commits what poll() returned last, which may be the next record: use "
                    "commit(message=message, asynchronous=False)"
                )
                raise Rejected(f"The process died while it handled order 3, and order 3 is lost: {how}.")
            one.dies_at = ""
            if raised := one.run(consume, hint=HINT):
                raise Rejected(f"After a restart, {describe(consume, raised)}")
            if one.committed < len(one.values):
                raise Rejected(
                    f"All records are handled, and the committed offset is {one.committed}: every restart handles "
                    "them again from there."
                )
            again = len(one.handled) - len(one.values)
            if again > 0 and not _commits(consume):
                raise Rejected(
                    f"{again} records were handled twice, since the loop never commits. librdkafka does so every five "
                    "seconds, as enable.auto.commit is on by default, and commits what poll() has returned: a process "
                    "that dies after that, within handle(), loses the record."
                )
        return right(
            f"The process died at order 3, and a new one went on there: 4 records handled, {again} of them twice."
        )


def _commits(function: Function) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and "commit" in code.co_names
