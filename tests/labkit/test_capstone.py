"""The capstone: its referee finds each defect, its solution passes, and a reset removes extension services."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import nbformat
import psycopg
import pytest

from labkit import Session
from labkit.capstone import ExtensionService, create_extension, trials
from labkit.capstone.loyalty import NAME, SERVICE, SOLUTION
from labkit.capstone.referee import (
    Snapshot,
    each_booking_published,
    metric_is_correct,
    missing_part,
    no_unpaid_points,
    one_trace,
    points_awarded_once,
    referee,
    settle,
)
from labkit.errors import KitError
from labkit.exercises.operations.capstone import EXERCISES
from labkit.exercises.tasks import Tasks
from labkit.inspect.look import Look
from labkit.waiting import wait_until
from labstack.clients import broker, consumer_groups, http
from labstack.errors import LabError
from tests.suite.chance import short_sample

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "13-capstone.ipynb"
TRACE, OTHER_TRACE = "a" * 32, "b" * 32
CORRECT = Snapshot(
    captured={"good": 1780, "bad": 890, "unpaid": 0},
    refunded={"good": 0, "bad": 890, "unpaid": 0},
    bookings={"good": [17], "bad": [8, -8], "unpaid": []},
    published={
        "good": Counter(PointsAwarded=1),
        "bad": Counter(PointsAwarded=1, PointsTakenBack=1),
        "unpaid": Counter(),
    },
    traceparents={"good": [f"00-{TRACE}-{'c' * 16}-01"], "bad": [f"00-{OTHER_TRACE}-{'c' * 16}-01"] * 2, "unpaid": []},
    traces={"good": TRACE, "bad": OTHER_TRACE},
    total=17,
)
BOOKED_TWICE = {"good": [17, 17], "bad": [8, -8], "unpaid": []}
DEFECTS = {
    "twice": (replace(CORRECT, bookings=BOOKED_TWICE), "paid once, points once", "more than once: good"),
    "never": (replace(CORRECT, bookings={**BOOKED_TWICE, "good": []}), "paid once, points once", "no points: good"),
    "other": (
        replace(CORRECT, bookings={**BOOKED_TWICE, "good": [18]}),
        "paid once, points once",
        "not match the euros",
    ),
    "kept": (replace(CORRECT, bookings={**BOOKED_TWICE, "bad": [8]}), "no points for refunds", "but with points: bad"),
    "unpaid": (replace(CORRECT, bookings={**BOOKED_TWICE, "unpaid": [3]}), "no points for refunds", "unpaid"),
    "too much": (replace(CORRECT, bookings={**BOOKED_TWICE, "bad": [8, -8, -8]}), "no points for refunds", "more"),
    "silent": (
        replace(CORRECT, published={**CORRECT.published, "good": Counter()}),
        "each booking has an event",
        "without an event: good",
    ),
    "invented": (
        replace(CORRECT, published={**CORRECT.published, "unpaid": Counter(PointsAwarded=1)}),
        "each booking has an event",
        "without a booking: unpaid",
    ),
    "untraced": (
        replace(CORRECT, traceparents={**CORRECT.traceparents, "good": [""]}),
        "one order, one trace",
        "without a traceparent: good",
    ),
    "other trace": (
        replace(CORRECT, traces={"good": OTHER_TRACE, "bad": OTHER_TRACE}),
        "one order, one trace",
        "a different trace than their order: good",
    ),
}
RULES = (points_awarded_once, no_unpaid_points, each_booking_published, one_trace)


@pytest.fixture
def tasks(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """The exercises, in a separate folder."""
    monkeypatch.chdir(tmp_path)
    return Tasks(session.lab, session.shop, session.look, "13")


def test_all_rules_hold_for_correct_bookings() -> None:
    """All rules hold if points are booked once, returned with a refund, published, and in the order's trace."""
    assert all(rule(CORRECT).holds for rule in RULES)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_violates_its_rule(defect: str) -> None:
    """Each defect violates its rule, and the verdict names the order."""
    seen, name, message = DEFECTS[defect]
    broken = {verdict.name: verdict.finding for verdict in (rule(seen) for rule in RULES) if not verdict.holds}
    assert message in broken[name]


@pytest.mark.parametrize(("value", "holds"), [(17, True), (18, False), (16, False), (0, False), (None, False)])
def test_metric_must_equal_the_sum_of_all_points(
    value: float | None, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric that counts too much violates the rule like one that counts too little."""
    monkeypatch.setattr(sys.modules[metric_is_correct.__module__], "METRIC_TIMEOUT", 0.05)
    look = SimpleNamespace(metrics=SimpleNamespace(value=lambda service, metric: value))
    verdict = metric_is_correct(cast(Look, look), CORRECT)
    assert verdict.holds is holds
    assert holds or verdict.finding == f"loyalty_points is {value}, but the sum of all points is 17"


def build(session: Session) -> ExtensionService:
    """Build the service as the solution does."""
    names = {"lab": session.lab, "look": session.look}
    exec(SOLUTION, names)
    return ExtensionService(session.lab, NAME)


def test_notebook_contains_no_part_of_the_solution() -> None:
    """The notebook states requirements: no cell has a part of the solution."""
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    text = "\n".join(cell.source for cell in cells)
    for part in ("CREATE TABLE", "CREATE PUBLICATION", "INSERT INTO", "EventRouter", "slot.name", "def on_", "is_new"):
        assert part in SOLUTION
        assert part not in text, part


def test_all_rules_hold_after_the_solution(session: Session, tasks: Tasks) -> None:
    """The solution keeps all rules under all trials at once."""
    build(session)
    verdict = tasks.check("the-referee")
    assert verdict.outcome == "right", verdict.message


def test_a_missing_part_is_named(session: Session, tasks: Tasks) -> None:
    """Without a service no rule holds, and the referee and the checks name the missing part."""
    lab, look = session.lab, session.look
    lab.reset()
    assert missing_part(lab, look) == "there is no database loyalty"
    loyalty = create_extension(lab, NAME)
    rules = referee(lab, look)
    assert not rules.holds.any()
    assert set(rules.seen) == {"the database loyalty has no table points"}
    loyalty.write(SERVICE)
    assert "no table points" in tasks.check("join-in").message
    with look.db.connect(NAME) as db:
        db.execute("CREATE TABLE points (order_id uuid, points int); CREATE TABLE outbox (id uuid, aggregateid uuid)")
    assert missing_part(lab, look) == "the database loyalty has no replication slot"
    with look.db.connect(NAME) as db:
        db.execute("SELECT pg_create_logical_replication_slot('loyalty_outbox', 'pgoutput')")
    assert missing_part(lab, look) == "no connector reads the replication slot of loyalty"
    lab.reset()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    short_sample(
        [
            ("HANDLERS =", "HANDLERS := ", "SyntaxError"),
            ("HANDLERS = {PaymentCompleted: on_paid, PaymentRefunded: on_refunded}", "", "does not define HANDLERS"),
            ("book(db, event, points)\n        publish", "bok(db, event, points)\n        publish", "NameError"),
        ],
        1,
    ),
)
def test_the_error_of_code_that_does_not_run_is_reported(
    session: Session, tasks: Tasks, old: str, new: str, error: str
) -> None:
    """The check's message contains the error of code that does not run."""
    build(session).edit(old, new)
    verdict = tasks.check("once-only")
    assert verdict.outcome == "wrong", verdict
    assert error in verdict.message


def test_an_edit_without_a_match_changes_nothing(tasks: Tasks) -> None:
    """An edit whose text is not found changes nothing, and raises an error."""
    loyalty = ExtensionService(tasks._bench.lab, NAME)
    loyalty.write(SERVICE)
    with pytest.raises(KitError, match="contains it 0 times"):
        loyalty.edit("def nothing_of_this():", "pass")
    assert loyalty.code == SERVICE.lstrip()


@pytest.mark.parametrize("name", ["order", "postgres", "Loyalty", "my-service", "x"])
def test_a_used_or_unsuitable_service_name_is_rejected(session: Session, name: str) -> None:
    """A name that is in use, or unsuitable for a database, a slot and a topic, is rejected."""
    with pytest.raises(LabError, match="is not a valid name"):
        session.lab.extensions.create(name)


def test_a_reset_removes_everything_of_an_extension_service(session: Session, tasks: Tasks) -> None:
    """A reset removes process, connector, slot, database, topics and group; a new extension service starts empty."""
    lab, look = session.lab, session.look
    lab.reset()  # otherwise, the service also handles the events of earlier tests
    loyalty = build(session)
    loyalty.start()
    order = trials.one_order(session.shop)
    settle(lab, look, [order])
    assert referee(lab, look).holds.all()
    wait_until(lambda: any("heartbeat" in one and NAME in one for one in broker.topic_names(lab.endpoints.kafka)))
    host = lab.endpoints.databases["shipping"]
    lab.reset()
    assert not loyalty.runs
    assert lab.extensions.names == []
    assert len(http.get(f"{lab.endpoints.connect}/connectors").json()) == len(lab.endpoints.services)
    with psycopg.connect(host) as connection:
        assert connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == [("outbox",)]
        assert connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchall() == []
    assert [topic for topic in broker.topic_names(lab.endpoints.kafka) if NAME in topic] == []
    assert consumer_groups.committed_offsets(lab.endpoints.kafka, NAME) == {}
    assert loyalty.code == SERVICE.lstrip(), "what the learner has written stays"
    build(session).start()
    again = trials.one_order(session.shop)
    settle(lab, look, [again])
    assert [view.record.key for view in look.kafka.records(topic=f"{NAME}.events")] == [again]
    lab.reset()


def test_there_are_enough_exercises() -> None:
    """The exercises cover joining in, inbox, compensation, trace, metric, transaction, and all of them together."""
    assert len(EXERCISES) == 7
