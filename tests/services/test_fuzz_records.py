"""Malformed records: the consumer survives any bytes from a topic."""

import itertools
import json
import time
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any, cast

import pytest
from confluent_kafka import Message
from hypothesis import given, seed
from hypothesis import strategies as st

from labservices.events import EVENTS
from labservices.messaging import parking
from labservices.messaging.handling import Outcome
from labservices.record import read_message
from tests.services.books import read_snapshot
from tests.services.luck import SEED, example_settings
from tests.services.oracle import balances_add_up, no_balance_is_below_zero, stock_adds_up, stock_is_within_bounds
from tests.services.test_handlers import make_event
from tests.services.test_parking import FakeDeadLetterTopic, retry_all
from tests.services.world import World, make_order_created, record_of

Headers = list[tuple[str, bytes | None]]

HEADERS = ["ce_id", "ce_type", "ce_dataschema", "ce_source", "traceparent", "causation_id", "x"]
TOPICS = sorted({event.topic for event in EVENTS.values()})
INVARIANTS = (stock_is_within_bounds, stock_adds_up, balances_add_up, no_balance_is_below_zero)
REMOVED = object()
NEXT_OFFSET = itertools.count(10**6)

# Longer than the maximum of an entry in PostgreSQL's usual index, even when compressed.
LONG = Random(8).randbytes(4000).hex()
numbers = st.sampled_from([-1, 0, 1, 2**31, 2**63 - 1, 2**63, 10**30, 0.5, 1e308, float("nan")]) | st.integers()
texts = st.sampled_from(["", "\0", "a\0b", "\ud800", "mug", "ada", "EUR", "x" * 64, LONG]) | st.text(max_size=70)
raw = (
    st.sampled_from([b"", b"\0", b"a\0b", b"\xff\xfe", b"7", LONG.encode()])
    | st.binary(max_size=40)
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
bodies = st.sampled_from(
    [b"", b"{", b"null", b"[]", b"[" * 10**5, b'{"a":' * 10**4, b"\xff", b"1" * 10**5, b"x" * 10**6]
)
types = st.sampled_from([name.encode() for name in EVENTS])
junk = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class RawRecord:
    """A record with the interface of the Kafka client's messages."""

    def __init__(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        place = {"topic": topic, "partition": 0, "offset": next(NEXT_OFFSET), "timestamp": (1, time.time_ns() // 10**6)}
        for name, part in {**place, "key": key, "value": value, "headers": headers}.items():
            setattr(self, name, partial(lambda it: it, part))

    def __repr__(self) -> str:
        return str({name: part.args[0] for name, part in vars(self).items()})


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every element of a JSON value."""
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in list(parts):
        yield from paths_in(part, (*path, name))


def look_up(value: Any, path: tuple[Any, ...]) -> Any:
    """Return the element at a path."""
    return look_up(value[path[0]], path[1:]) if path else value


def corrupt(draw: st.DrawFn, value: Any) -> Any:
    """Replace or remove one element of a JSON value."""
    paths = list(paths_in(value))
    if not paths:
        return draw(junk)
    path = draw(st.sampled_from(paths))
    old, parent = look_up(value, path), look_up(value, path[:-1])
    alike = numbers if isinstance(old, int) else texts if isinstance(old, str) else junk
    new = draw(alike | alike | junk | st.just(REMOVED))
    if new is REMOVED:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return value


@st.composite
def corrupted_records(draw: st.DrawFn) -> RawRecord:
    """Generate an event of the saga, and spoil some of it."""
    good = record_of(make_event(make_order_created(), draw(st.sampled_from(list(EVENTS.values())))))
    key: bytes | None = (good.key or "").encode()
    value, topic = good.value or b"", good.topic
    headers: dict[str, bytes | None] = {name: text.encode() for name, text in good.headers.items()}
    for what in draw(st.lists(st.sampled_from(["a field", "a field", "value", "header", "key", "topic"]), max_size=2)):
        match what:
            case "a field":
                value = json.dumps(corrupt(draw, json.loads(good.value or b""))).encode()
            case "value":
                value = draw(bodies | raw)
            case "header":
                headers |= draw(
                    st.dictionaries(st.sampled_from(HEADERS), raw | types | st.none(), min_size=1, max_size=2)
                )
            case "key":
                key = draw(st.none() | raw)
            case "topic":
                topic = draw(st.sampled_from(TOPICS))
    return RawRecord(topic, key, value, list(headers.items()))


random_records = st.builds(
    RawRecord,
    topic=st.sampled_from([*TOPICS, "x"]),
    key=st.none() | raw,
    value=st.none() | raw | bodies,
    headers=st.lists(
        st.tuples(st.just("ce_type"), types)
        | st.tuples(st.sampled_from(HEADERS) | st.text(max_size=5), st.none() | raw),
        max_size=6,
    ),
)


@pytest.mark.parametrize("records", [corrupted_records(), random_records], ids=["corrupted", "random"])
def test_no_record_stops_a_consumer(
    world: World, monkeypatch: pytest.MonkeyPatch, records: st.SearchStrategy[RawRecord]
) -> None:
    """Each record is handled, ignored, or parked and dead-lettered; it can be listed, and the next one is handled."""
    monkeypatch.setattr(parking, "RETRY_FIRST", 0.0)
    for harness in world.harnesses.values():
        monkeypatch.setattr(harness.runtime.handling, "_dead_letters", FakeDeadLetterTopic())
    seen = set()

    @seed(SEED)
    @example_settings(75)
    @given(record=records)
    def handle_record(record: RawRecord) -> None:
        world.reset()
        for harness in world.harnesses.values():
            outcome = harness.runtime.handling.handle(read_message(cast(Message, record)))
            parked = retry_all(harness)
            seen.add(outcome)
            assert outcome in (Outcome.HANDLED, Outcome.IGNORED, Outcome.FAILED)
            assert (outcome is Outcome.FAILED) == bool(parked)
            assert not parked or parked[-1] is Outcome.DEAD
            listing = harness.http.get("/manage/parked-records")
            assert (listing.status_code, len(listing.json()["items"])) == (200, bool(parked))
        assert world.inventory.handle(make_order_created()) is Outcome.HANDLED
        assert [invariant.__name__ for invariant in INVARIANTS if list(invariant(read_snapshot(world)))] == []

    handle_record()
    assert {Outcome.IGNORED, Outcome.FAILED} <= seen
    assert Outcome.HANDLED in seen or records is random_records
