"""Loads of orders, measurements beside them, and practice topics, on a real lab."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pandas as pd
import pytest

from labkit import Session, charts, wait_until
from labkit.client.load import Load, Placed, moments
from labkit.client.partitions import partition_of
from labkit.client.practice import MAX_WORKERS, Practice
from labkit.client.sampling import Samples
from labkit.errors import KitError
from labstack.clients import broker, consumer_groups, practice
from labstack.errors import LabError


@pytest.fixture
def bench(session: Session) -> Iterator[Practice]:
    """Practice topics; the test leaves none behind."""
    made = Practice(session.lab)
    yield made
    made.clean()
    assert practice_topics(session) == []


def practice_topics(session: Session) -> list[str]:
    with broker.admin(session.lab.endpoints.kafka) as client:
        return [name for name in client.list_topics(timeout=10).topics if name.startswith(practice.PREFIX)]


# -- orders ----------------------------------------------------------------------------------------------------------


def test_every_order_of_a_load_is_accepted_and_completed(session: Session) -> None:
    """Each order of a load is accepted with a unique id, and each is completed."""
    load = session.shop.load(6, per_second=12)
    assert repr(load) == "6 orders, 12 a second: 6 × 201"
    assert len(set(load.orders)) == 6
    assert {session.shop.follow(order).status for order in load.orders} == {"COMPLETED"}


def test_a_load_does_not_wait_for_answers(session: Session) -> None:
    """While the order service is paused, all orders are sent when they are due, and their waiting time is counted."""
    session.lab.faults.pause("order")
    resuming = threading.Timer(1.5, session.lab.faults.resume, ["order"])
    resuming.start()
    load = session.shop.load(8, per_second=16, evenly=True)
    resuming.join()
    assert load.statuses == {201: 8}
    first_answer = min(one.answered for one in load.placed)
    assert sum(one.sent < first_answer for one in load.placed) > 1
    assert all(one.due <= one.sent + 0.05 and one.sent <= one.answered for one in load.placed)
    session.look.wait_for_rest(load.orders)


@pytest.mark.parametrize(("count", "per_second"), [(0, 1), (401, 40), (10, 41), (10, 0), (100, 1)])
def test_a_load_beyond_the_limits_is_rejected(session: Session, count: int, per_second: float) -> None:
    """Too many, too fast or too long a load is rejected, with the limits."""
    with pytest.raises(KitError, match=r"at most 400 orders, 40 a second, for 90 s"):
        session.shop.load(count, per_second)


def test_the_same_seed_gives_the_same_moments() -> None:
    """The same seed gives the same moments within the time; evenly spaced ones have equal intervals."""
    some = moments(50, 5, evenly=False, seed=1)
    assert some == moments(50, 5, evenly=False, seed=1) == sorted(some)
    assert some != moments(50, 5, evenly=False, seed=2)
    assert 0 <= some[0] < some[-1] <= 10
    assert len({round(b - a, 3) for a, b in itertools.pairwise(some)}) > 20
    assert moments(4, 2, evenly=True, seed=1) == [0, 0.5, 1, 1.5]


def test_the_waiting_time_starts_when_an_order_is_due() -> None:
    """The waiting time starts when an order is due, even if it is sent late."""
    late = Placed(due=10, sent=12, answered=12.5, status=201, order_id="a")
    lost = Placed(due=11, sent=11, answered=11.1, status=0, order_id="")
    load = Load([late, lost], 1)
    assert (late.seconds, load.orders, load.statuses) == (2.5, ["a"], {0: 1, 201: 1})


# -- samples ---------------------------------------------------------------------------------------------------------


def test_samples_are_taken_until_the_block_ends() -> None:
    """The probe is repeated until the block ends, and failed measurements are left out."""
    numbers = itertools.count()

    def probe() -> float:
        number = next(numbers)
        if number == 1:
            raise KitError("away")
        return float(number)

    with Samples(probe, every=0.01) as samples:
        wait_until(lambda: next(numbers) > 20)
    seen = samples.table()
    assert seen.value.is_monotonic_increasing
    assert 1 not in seen.value.tolist()
    assert len(samples.table()) == len(seen)


def test_the_mean_is_weighted_by_time() -> None:
    """Each value counts until the next measurement, and several values are added up."""
    samples = Samples(lambda: 0)
    samples._measurements = [(100.0, 4.0), (101.0, 0.0), (104.0, 9.0)]
    assert samples.mean() == 1.0
    samples._measurements = [(100.0, {"0": 1.0, "1": 3.0}), (101.0, {"0": 0.0, "1": 0.0})]
    assert samples.mean() == 4.0
    assert list(samples.table().columns) == ["0", "1"]
    assert samples.began == 100.0


def test_the_error_without_samples_states_the_last_failure() -> None:
    """If every measurement failed, the error states the last failure."""

    def unavailable() -> float:
        raise KitError("The database is away.")

    with Samples(unavailable, every=0.01) as samples:
        wait_until(lambda: samples._error)
    with pytest.raises(KitError, match="The database is away"):
        samples.table()


# -- topics to practise with -----------------------------------------------------------------------------------------


def test_keys_choose_the_same_partitions_as_with_debezium(bench: Practice) -> None:
    """Keys go to the same partitions as with Debezium, even after partitions are added; explicit ones are kept."""
    keys = [f"key-{number}" for number in range(20)]
    topic = bench.topic(3)
    bench.write(topic, [(key, "a") for key in keys])
    assert {r.key: r.partition for r in bench.read(topic)} == {key: partition_of(key, 3) for key in keys}
    bench.grow(topic, 5)
    bench.write(topic, [(key, "b") for key in keys])
    after = {r.key: r.partition for r in bench.read(topic) if r.value == b"b"}
    assert after == {key: partition_of(key, 5) for key in keys}
    bench.write(topic, [(None, "c"), (None, "c")], partitions=[4, 1])
    assert sorted(r.partition for r in bench.read(topic) if r.value == b"c") == [1, 4]


@pytest.mark.parametrize(("number", "busy"), [(1, 1), (3, 3), (6, 4)])
def test_workers_share_every_partition(bench: Practice, number: int, busy: int) -> None:
    """Each record is handled once, and surplus workers are idle."""
    topic = bench.topic(4)
    bench.write(topic, [(None, str(n)) for n in range(12)], partitions=[n % 4 for n in range(12)])
    with bench.workers(topic, number, lambda record: None) as team:
        table = team.finish(12)
    assert sorted(int(one.record.value or b"") for one in team.handled) == list(range(12))
    assert (table.records > 0).sum() == busy
    assert sorted(itertools.chain(*table.partitions)) == [0, 1, 2, 3]


def test_too_few_or_too_many_workers_are_rejected(bench: Practice) -> None:
    """Zero workers, and more than a laptop can run, are rejected."""
    for number in (0, MAX_WORKERS + 1):
        with pytest.raises(KitError, match="1 to 12"), bench.workers("practice-none", number, print):
            pass


def test_topics_that_do_not_exist_are_rejected(bench: Practice) -> None:
    """Partitions of an unknown topic, and workers without a topic, are rejected with a next step."""
    with pytest.raises(KitError, match="Unknown topic"):
        bench.grow("\x00", 8)
    with pytest.raises(KitError, match="list of topics is empty"), bench.workers([], 1, print):
        pass


def test_a_reset_deletes_practice_topics(session: Session, bench: Practice) -> None:
    """A reset deletes practice topics and keeps the shop's topics, which can't be deleted by hand."""
    topic = bench.topic()
    bench.write(topic, [("a", "b")])
    session.lab.reset()
    assert practice_topics(session) == []
    bench.remove(topic)  # it is deleted already
    with pytest.raises(LabError, match=r"order\.events"):
        bench.remove("order.events")
    assert session.shop.load(1, 1).statuses == {201: 1}


def test_offsets_of_a_group_are_listed_per_partition(session: Session, bench: Practice) -> None:
    """Offsets are listed per partition, NaN if nothing is committed; an unknown topic is named."""
    topic, group = bench.topic(2), bench.group()
    bench.write(topic, [(None, "x")] * 5, partitions=[0, 0, 0, 1, 1])
    consumer_groups.commit_offsets(session.lab.endpoints.kafka, group, {(topic, 0): 2})
    offsets = session.look.kafka.offsets(group, topic)
    assert offsets.fillna(-1).values.tolist() == [[0, 0, 2, 3], [1, 0, -1, 2]]
    with pytest.raises(KitError, match="Unknown topic 'nothing'"):
        session.look.kafka.offsets(group, "nothing")


# -- charts ----------------------------------------------------------------------------------------------------------


def test_charts_have_alt_text(bench: Practice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chart has an alt text that describes it."""
    alt_texts: list[str] = []
    monkeypatch.setattr(charts, "show", lambda figure, alt: alt_texts.append(alt))
    topic = bench.topic(2)
    bench.write(topic, [("acme", "x")] * 3)
    with bench.workers(topic, 2, lambda record: time.sleep(0.01)) as team:
        team.finish(3)
    charts.workers_chart({"all": team}, "work", marked="acme")
    charts.lag_chart(pd.DataFrame({"0": [0, 3, 0], "1": [0, 1, 0]}, index=[0.0, 1.0, 2.0]), {"back": 1.0}, "lag")
    charts.stays_chart({2: pd.DataFrame({"came": [5.0, 6.0], "seconds": [0.5, 0.5]})}, "stays")
    charts.utilisation_chart({2: pd.DataFrame({"seconds": [0.25, 0.75]})}, 0.2, "utilisation")
    assert alt_texts[0].startswith("A row for each worker, a bar for each record it handled; 2 handle 3 records in ")
    assert alt_texts[0].endswith("The records of acme are drawn in another colour.")
    assert alt_texts[1].endswith("at most 3 in partition 0; at most 1 in partition 1; 0 at the end.")
    assert alt_texts[2].endswith("at 2 a second half of them within 0.5 seconds.")
    assert alt_texts[3].endswith("The means: 0.5 seconds at ρ = 0.4.")


@pytest.mark.long
def test_workers_lose_no_record_when_they_lose_their_partitions(session: Session, bench: Practice) -> None:
    """A broker outage beyond the session timeout costs the workers their partitions, but no record."""
    topic = bench.topic(partitions=4)
    bench.write(topic, [(f"gift-{number}", "to wrap") for number in range(24)])
    with bench.workers(topic, 2, lambda record: None) as team:
        session.lab.faults.pause("kafka")
        done: list[pd.DataFrame] = []
        finishing = threading.Thread(target=lambda: done.append(team.finish(24)))
        try:
            wait_until(lambda: None in team.assigned, 30)
            finishing.start()
        finally:
            session.lab.faults.resume("kafka")
        finishing.join()
    assert done
    assert done[0].records.sum() >= 24
