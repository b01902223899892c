"""The exercises of notebook 12; two are in `clients.py`."""

from __future__ import annotations

import math
import random
import time
import uuid
from typing import Any

import pandas as pd

from labkit.client.partitions import partition_of
from labkit.client.practice import Practice
from labkit.client.sampling import Samples
from labkit.exercises.base import Bench, Exercise, Verdict, Wrong, right, wrong
from labkit.exercises.operations.clients import NoIdleMember, PracticeExercise, TwoProducers, crc32_of
from labkit.waiting import wait_until
from labstack.clients import broker, consumer_groups

GIFT = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source)
    VALUES (gen_random_uuid(), 'order', %s, 'Gift', '{}', 'urn:sagalab:Exercise:1.0', 'urn:sagalab:exercise')
"""
OPEN = "SELECT count(*) AS n FROM orders WHERE status NOT IN ('COMPLETED', 'CANCELLED')"
STAYS = """
    SELECT extract(epoch FROM at - created_at)::float8 AS seconds FROM orders JOIN order_history USING (order_id)
    WHERE order_history.status = 'COMPLETED' AND order_id = ANY(%(orders)s::uuid[])
"""
COMPANIES = ("acme", "bolt-and-nut", "clockworks", "dynamo", "evergreen", "fjord-ferries", "gasworks", "harbour-trust")
MAX_UTILIZATION = 0.7


class WhereItWillLie(Exercise):
    """The key alone determines the partition."""

    name = "where-it-will-lie"
    title = "Into which partitions do the records of four new keys go?"
    kind = "code"
    level = 1
    minutes = 2
    hints = (
        ("Look at the function `partition` in the section about keys: which hash is it, and by what is it divided?"),
        "Use it for each of given.keys, with four partitions, and collect the numbers in a list.",
        ("It begins:\n    answer = [partition(key) for ..."),
    )
    answer = """
        from labkit.client.partitions import murmur2
        answer = [(murmur2(key.encode()) & 0x7FFFFFFF) % 4 for key in given.keys]
    """
    why = (
        "The partition is the hash of the key, modulo the number of partitions. You can compute it before the row is "
        "written, and so can every program that uses the same hash: producers need no coordination. Debezium leaves "
        "the choice to Kafka's own client."
    )
    mistakes = (
        Wrong("import zlib; answer = [zlib.crc32(key.encode()) % 4 for key in given.keys]", "crc32"),
        Wrong(
            "from labkit.client.partitions import partition_of; answer = [partition_of(key, 3) for key in given.keys]",
            "four partitions",
        ),
        Wrong("answer = [0, 1, 2, 3]", "round robin"),
        Wrong("answer = 2", "list"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        while True:
            keys = [str(uuid.uuid4()) for _ in range(4)]
            here = [partition_of(key) for key in keys]
            others = [[crc32_of(key) for key in keys], [partition_of(key, 3) for key in keys], [0, 1, 2, 3]]
            if here not in others and others[0] != [0, 1, 2, 3]:
                return "given.keys are four new keys.", {"keys": keys}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        keys = bench.given.keys
        if not isinstance(answer, list | tuple) or len(answer) != len(keys):
            return wrong("The answer is a list of four numbers, one for each of given.keys.")
        with bench.look.db.connect("order") as db:
            for key in keys:
                db.execute(GIFT, [key])
        found = [bench.look.kafka.record(key, "Gift").record.partition for key in keys]
        if list(answer) == found:
            return right(f"The records were written, and are in {found}.")
        if list(answer) == [crc32_of(key) for key in keys]:
            return wrong("That is crc32, the default of librdkafka. Kafka's own clients, and Debezium, use murmur2.")
        if list(answer) == [0, 1, 2, 3]:
            return wrong("Records without a key are distributed round robin. These have keys: hash them.")
        hits = sum(one == other for one, other in zip(answer, found, strict=True))
        return wrong(f"{hits} of 4 are right. Is it murmur2, without its sign, and modulo four partitions?")


class HowFarBehind(PracticeExercise):
    """Lag is the end offset minus the committed offset, or minus the start if nothing is committed."""

    name = "how-far-behind"
    title = "How many records does a group still have to read, by partition?"
    kind = "code"
    level = 2
    minutes = 6
    hints = (
        (
            "Look at look.kafka.offsets(given.group, given.topic): start, committed and end of each "
            "partition. Lag is a distance. What does a group do where it has committed nothing?"
        ),
        (
            "Use places.end minus places.committed. Where that is not a number, the members begin with the "
            "oldest record that still exists: fillna with the column `start`."
        ),
        (
            "It begins:\n"
            "    places = look.kafka.offsets(given.group, given.topic)\n"
            "    begins = places.committed.fillna(..."
        ),
    )
    answer = """
        places = look.kafka.offsets(given.group, given.topic)
        begins = places.committed.fillna(places.start)
        answer = dict(zip(places.partition, places.end - begins))
    """
    why = (
        "Lag is the end minus the committed offset. Where a group has committed nothing, auto.offset.reset decides: "
        "with `earliest` it starts at the oldest record that still exists. That is not always offset 0, since old "
        "records are deleted. With `latest` it would start at the end and never read the existing records: lag 0, and "
        "no record handled."
    )
    mistakes = (
        Wrong(
            "places = look.kafka.offsets(given.group, given.topic); answer = dict(zip(places.partition, places.end))",
            "a distance",
        ),
        Wrong(
            """
            places = look.kafka.offsets(given.group, given.topic)
            answer = dict(zip(places.partition, (places.end - places.committed).fillna(0)))
            """,
            "committed nothing",
        ),
        Wrong(
            """
            places = look.kafka.offsets(given.group, given.topic)
            answer = dict(zip(places.partition, places.end - places.committed.fillna(0)))
            """,
            "deleted",
        ),
        Wrong(
            """
            places = look.kafka.offsets(given.group, given.topic)
            answer = dict(zip(places.partition, places.end - places.start))
            """,
            "has read",
        ),
        Wrong("answer = 12", "dict"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        practice, kafka = Practice(bench.lab), bench.lab.endpoints.kafka
        topic, group = practice.topic(), practice.group()
        practice.write(topic, [(f"gift-{number}", "to wrap") for number in range(60)])
        ends = broker.end_offsets(kafka, broker.partitions(kafka, [topic]))
        new = random.randrange(4)
        done = {place: random.randint(1, end - 2) for place, end in ends.items() if place[1] != new}
        consumer_groups.commit_offsets(kafka, group, done)
        broker.delete_records(kafka, {(topic, new): 3})
        return "60 gifts are in four partitions, and the group has started to read three of them.", {
            "topic": topic,
            "group": group,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, dict):
            return wrong("The answer is a dict: a number of records for each partition, 0 to 3.")
        if gone := self.is_gone(bench):
            return gone
        places = bench.look.kafka.offsets(bench.given.group, bench.given.topic).set_index("partition")
        found = as_numbers(answer)
        if found == as_numbers((places.end - places.committed.fillna(places.start)).to_dict()):
            return right(f"{sum(found.values())} records in all.")
        if found == as_numbers(places.end.to_dict()):
            return wrong("Those are the ends of the logs. Lag is a distance: from the committed offset to the end.")
        if found == as_numbers((places.end - places.start).to_dict()):
            return wrong("That is the number of all records. The group has read some of them, in three partitions.")
        if found == as_numbers((places.end - places.committed.fillna(0)).to_dict()):
            return wrong(
                "Where nothing is committed, you started at offset 0. But the oldest records of that partition were "
                "deleted: where does it start?"
            )
        new = places.index[places.committed.isna()][0]
        if found.get(new, 0) == 0:
            return wrong(
                f"In partition {new} the group has committed nothing. That does not mean that it has read everything: "
                "it has not started."
            )
        return wrong(f"That is {found}, not the distances from the committed offsets to the ends.")


def as_numbers(answer: dict[Any, Any]) -> dict[int, int]:
    """Return partitions and lags as integers; NaN counts as 0."""
    return {int(key): 0 if pd.isna(value) else int(value) for key, value in answer.items()}


class TheHotKey(PracticeExercise):
    """Lag consists of the unread records, not of all records."""

    name = "the-hot-key"
    title = "A group lags, almost only in one partition. Which key is the cause?"
    kind = "code"
    level = 2
    minutes = 9
    hidden = ("bystander",)
    hints = (
        (
            "Lag consists of records that the group has not read. Look at what it has committed: "
            "look.kafka.offsets(given.group, given.topic)."
        ),
        (
            "Use Practice(lab).read(given.topic): records with key, partition and offset. Keep those with an "
            "offset from the committed one on, and count their keys with collections.Counter."
        ),
        ('It begins:\n    done = look.kafka.offsets(given.group, given.topic).set_index("partition").committed'),
    )
    answer = """
        from collections import Counter
        from labkit.client.practice import Practice
        done = look.kafka.offsets(given.group, given.topic).set_index("partition").committed
        unread = [record for record in Practice(lab).read(given.topic) if record.offset >= done[record.partition]]
        answer = Counter(record.key for record in unread).most_common(1)[0][0]
    """
    why = (
        "The topic keeps records that were read long ago. Lag consists of unread records, so count from the committed "
        "offset. One key makes one partition hot, and the other keys in this partition suffer. The fixes: a key that "
        "spreads better, or splitting this key (acme-1, acme-2, …), if its records need no order among themselves."
    )
    mistakes = (
        Wrong(
            """
            from collections import Counter
            from labkit.client.practice import Practice
            answer = Counter(record.key for record in Practice(lab).read(given.topic)).most_common(1)[0][0]
            """,
            "already read",
        ),
        Wrong(
            """
            places = look.kafka.offsets(given.group, given.topic).set_index("partition")
            answer = int((places.end - places.committed).idxmax())
            """,
            "partition",
        ),
        Wrong("answer = given.bystander", "suffers"),
        Wrong('answer = "nobody"', "no record"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        practice, kafka = Practice(bench.lab), bench.lab.endpoints.kafka
        topic, group = practice.topic(), practice.group()
        hot = random.choice(COMPANIES)
        big = next(key for key in COMPANIES if partition_of(key) != partition_of(hot))
        names = [f"customer-{number:03}" for number in range(1, 41)]
        bystander = next(key for key in names if partition_of(key) == partition_of(hot))
        practice.write(topic, [(key, "read") for key in [big] * 40 + names])
        consumer_groups.commit_offsets(kafka, group, broker.end_offsets(kafka, broker.partitions(kafka, [topic])))
        rush = [hot] * 25 + [bystander] * 2 + names[:12]
        random.shuffle(rush)
        practice.write(topic, [(key, "unread") for key in rush])
        return "The group has read yesterday's records, but none of today's.", {
            "topic": topic,
            "group": group,
            "bystander": bystander,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if gone := self.is_gone(bench):
            return gone
        done = bench.look.kafka.offsets(bench.given.group, bench.given.topic).set_index("partition").committed
        records = Practice(bench.lab).read(bench.given.topic)
        unread = pd.Series([r.key for r in records if r.offset >= done[r.partition]]).value_counts()
        hot = str(unread.index[0])
        if answer == hot:
            return right(f"{unread[hot]} of the {unread.sum()} unread records belong to {hot}, all in one partition.")
        if isinstance(answer, int):
            return wrong("That is a partition. Which key fills it?")
        if answer not in {record.key for record in records}:
            return wrong("There is no record with this key in the topic.")
        if partition_of(str(answer)) == partition_of(hot):
            return wrong(f"{answer} is in the same partition, with few records: it suffers, but it is not the cause.")
        return wrong(f"{answer} has many records, but they are already read. Which records cause the lag?")


class WithoutAClock(Exercise):
    """Little's law: W = L / λ."""

    name = "without-a-clock"
    title = "How long does an order take, given the number of open orders and their arrival rate?"
    kind = "recall"
    level = 1
    minutes = 1
    hints = (
        "Look at the section *Little's law*: L = λ · W.",
        ("given.in_flight is L, a number of orders, and given.per_second is λ. Solve for W, so that seconds remain."),
        ("It begins:\n    answer = given.in_flight / ..."),
    )
    answer = "answer = given.in_flight / given.per_second"
    why = (
        "W = L / λ. Two numbers that every dashboard has, a count and a rate, give the duration without a single "
        "timestamp. The law holds for means, over a period that starts and ends with about as many orders in the "
        "system; it does not hold for quantiles."
    )
    mistakes = (
        Wrong("answer = given.in_flight * given.per_second", "multiplied"),
        Wrong("answer = given.in_flight", "That many orders"),
        Wrong("answer = 1000 * given.in_flight / given.per_second", "milliseconds"),
        Wrong('answer = "half a second"', "number of seconds"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        def in_flight() -> float:
            return float(bench.look.db.rows("order", OPEN).n.item())

        wait_until(lambda: in_flight() == 0, what="earlier orders to end")
        began = time.monotonic()
        with Samples(in_flight, every=0.1) as seen:
            load = bench.shop.load(30, per_second=6)
            wait_until(lambda: in_flight() == 0, 60, what="30 orders to end")
        facts = {
            "in_flight": round(seen.mean(), 3),
            "per_second": round(len(load.orders) / (time.monotonic() - began), 3),
            "orders": load.orders,
        }
        return "30 orders went through, and the number of open orders was sampled.", facts

    def check(self, bench: Bench, answer: Any) -> Verdict:
        inside, rate = bench.given.in_flight, bench.given.per_second
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return wrong("The answer is a number of seconds.")
        if math.isclose(answer, inside / rate, rel_tol=0.05):
            stays = bench.look.db.rows("order", STAYS, orders=bench.given.orders).seconds
            also = f" The databases' timestamps give {stays.mean():.2f} s." if len(stays) else ""
            return right(f"{answer:.2f} s, computed without a clock.{also}")
        if math.isclose(answer, 1000 * inside / rate, rel_tol=0.05):
            return wrong("Those are milliseconds; the answer is in seconds.")
        if math.isclose(answer, inside * rate, rel_tol=0.05):
            return wrong("You multiplied L by λ. But L is already λ · W.")
        if math.isclose(answer, inside, rel_tol=0.05):
            return wrong("That many orders are in the system. How long does each of them stay?")
        return wrong("L = λ · W: divide, so that the orders cancel out and seconds remain.")


class HowManyConsumers(PracticeExercise):
    """Utilisation determines the consumers; the consumers determine the partitions."""

    name = "how-many-consumers"
    title = "How many consumers and partitions does a load need, if no consumer may be busy for more than 70%?"
    kind = "recall"
    level = 2
    minutes = 4
    hints = (
        (
            "Each second brings given.per_second records, and each takes given.seconds. How many seconds of "
            "work is that?"
        ),
        (
            "One consumer may work for 0.7 s in each second: divide, and round up with math.ceil. Each "
            "consumer needs at least one partition."
        ),
        ("It begins:\n    from math import ceil\n    consumers = ceil(given.per_second * given.seconds / ..."),
    )
    answer = """
        from math import ceil
        consumers = ceil(given.per_second * given.seconds / 0.7)
        answer = dict(consumers=consumers, partitions=consumers)
    """
    why = (
        "Work per second (λ · s), divided by the utilisation that each consumer may have, rounded up. Without the 0.7 "
        "they would just keep up, as long as records arrive evenly; at 70% a record waits for about its own service "
        "time. A consumer without a partition is idle, so there must be at least as many partitions, better a "
        "multiple: then you can add consumers later without new partitions, which would move the keys."
    )
    mistakes = (
        Wrong(
            """
            from math import ceil
            answer = dict(consumers=ceil(given.per_second * given.seconds), partitions=12)
            """,
            "almost always",
        ),
        Wrong(
            """
            from math import ceil
            answer = dict(consumers=ceil(given.per_second * given.seconds / 0.7), partitions=4)
            """,
            "idle",
        ),
        Wrong("answer = dict(consumers=12, partitions=12)", "fewer"),
        Wrong("answer = dict(consumers=2, partitions=12)", "never catch up"),
        Wrong("answer = 6", "dict(consumers"),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        practice = Practice(bench.lab)
        topic = practice.topic()
        practice.write(topic, [(f"gift-{number}", "to wrap") for number in range(12)])
        with practice.workers(topic, 1, lambda record: time.sleep(0.12)) as team:
            team.finish(12)
        mean = sum(one.ended - one.began for one in team.handled) / len(team.handled)
        # With this rate five consumers are too few and six are enough, with a margin for rounding on both sides.
        rate = round(5.4 * MAX_UTILIZATION / mean, 1)
        return "A worker wrapped 12 gifts, and the setup measured its time.", {
            "topic": topic,
            "seconds": round(mean, 4),
            "per_second": rate,
        }

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if not isinstance(answer, dict) or not {"consumers", "partitions"} <= set(answer):
            return wrong("The answer is dict(consumers=…, partitions=…).")
        consumers, partitions = answer["consumers"], answer["partitions"]
        if not all(isinstance(one, int) and 0 < one <= 100 for one in (consumers, partitions)):
            return wrong("Both are integers from 1 to 100.")
        work = bench.given.per_second * bench.given.seconds
        needed = math.ceil(work / MAX_UTILIZATION)
        if consumers < work:
            return wrong(f"Each second brings {work:.1f} seconds of work: {consumers} consumers would never catch up.")
        if consumers < needed:
            return wrong(f"They would be busy for {work / consumers:.0%} of their time, almost always: too busy.")
        if consumers > needed:
            return wrong(f"They would be busy for {work / consumers:.0%} of their time. Even fewer are enough.")
        if partitions < consumers:
            return wrong(
                f"{consumers - partitions} of {consumers} consumers would be idle: each partition has one reader."
            )
        return right(self.run_trial(bench, consumers))

    def run_trial(self, bench: Bench, consumers: int) -> str:
        """Run the given number of consumers, and return their measured rate in words."""
        practice = Practice(bench.lab)
        topic = practice.topic(consumers)
        places = [number % consumers for number in range(5 * consumers)]
        practice.write(topic, [(None, "to wrap") for _ in places], partitions=places)
        with practice.workers(topic, consumers, lambda record: time.sleep(bench.given.seconds)) as team:
            team.finish(len(places))
        practice.remove(topic)
        most = len(places) / team.seconds
        return (
            f"Measured: {consumers} consumers handled at most {most:.0f} records a second, and "
            f"{bench.given.per_second:.0f} will arrive."
        )


EXERCISES: tuple[Exercise, ...] = (
    WhereItWillLie(),
    TwoProducers(),
    NoIdleMember(),
    HowFarBehind(),
    TheHotKey(),
    WithoutAClock(),
    HowManyConsumers(),
)
