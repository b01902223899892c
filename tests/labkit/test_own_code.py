"""Exercises whose answer is the learner's own code: the parts that need no lab."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from labkit.client.shop import Shop
from labkit.exercises import course
from labkit.exercises.base import Bench, Exercise, Verdict
from labkit.exercises.building.read_to_the_end import HesitantConsumer
from labkit.exercises.own_code import Rejected, is_empty, replacing, run_loop
from labkit.inspect.look import Look
from labstack import Lab

ALL = {exercise.name: exercise for exercises in course().values() for exercise in exercises}
EVENTS = ("OrderCreated", "InventoryReserved", "PaymentCompleted")


def saga(status: str, events: str, *ledger: list[Any]) -> dict[str, Any]:
    return {"status": status, "total_cents": 700, "events": events.split(), "ledger": list(ledger)}


def record(number: int, kind: str, cause: int = 0) -> dict[str, str]:
    return {"ce_id": str(number), "ce_type": kind, **({"causation_id": str(cause)} if cause else {})}


GIVEN = {
    "causal-chain": SimpleNamespace(
        event="5",
        records=[
            record(1, "OrderCreated"),
            record(2, "InventoryReserved", 1),
            record(3, "PaymentCompleted", 2),
            record(4, "ShippingFailed", 3),
            record(6, "InventoryReleased", 4),
            record(5, "PaymentRefunded", 4),
        ],
    ),
    "test-of-a-saga": SimpleNamespace(
        sagas={
            "completed": saga("COMPLETED", " ".join([*EVENTS, "ShipmentScheduled OrderCompleted"]), ["capture", 700]),
            "declined": saga(
                "CANCELLED", "OrderCreated InventoryReserved PaymentFailed InventoryReleased OrderCancelled"
            ),
            "no carrier": saga(
                "CANCELLED",
                " ".join([*EVENTS, "ShippingFailed PaymentRefunded InventoryReleased OrderCancelled"]),
                ["capture", 700],
                ["refund", 700],
            ),
        }
    ),
    "retry-policy": SimpleNamespace(),
}
"""Invented facts for the exercises whose check needs no lab."""
ATTEMPTS = [
    (name, code, message)
    for name in GIVEN
    for code, message in [(ALL[name].answer, ""), *((mistake.code, mistake.message) for mistake in ALL[name].mistakes)]
]


def check(exercise: Exercise, answer: Any) -> Verdict:
    bench = Bench(cast(Lab, None), cast(Shop, None), cast(Look, None), GIVEN.get(exercise.name, SimpleNamespace()))
    return exercise.check(bench, answer)


@pytest.mark.parametrize(("name", "code", "message"), ATTEMPTS)
def test_code_has_its_verdict(name: str, code: str, message: str) -> None:
    """The solution is right, and each typical mistake is wrong with its own message."""
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    verdict = check(ALL[name], names["answer"])
    assert verdict.outcome == ("wrong" if message else "right"), verdict
    assert message in verdict.message


def stub(attempts: int, error: Exception) -> None:
    """Return the wait."""


@pytest.mark.parametrize(
    ("function", "expected"),
    [(stub, True), (lambda: None, True), (lambda: 5, False), (lambda x: x, False), (print, False)],
)
def test_stub_is_recognised(function: Callable[..., Any], expected: bool) -> None:
    """A function that does nothing is a stub; one that returns something is an answer."""
    assert is_empty(function) == expected


def test_stub_is_untouched_and_a_call_is_rejected() -> None:
    """A stub counts as not attempted, and the result of a call is rejected with the form of the answer."""
    assert check(ALL["retry-policy"], stub).outcome == "untouched"
    verdict = check(ALL["undo-in-any-order"], stub)
    assert (verdict.outcome, "(on_created, on_cancelled)" in verdict.message) == ("wrong", True)


def test_error_of_the_code_is_a_verdict() -> None:
    """An error of the learner's function is reported with its name, its situation and the function."""
    verdict = check(ALL["retry-policy"], lambda attempts, error: attempts / 0)
    assert verdict.outcome == "wrong"
    assert "After 1 attempts and a ValueError" in verdict.message
    assert "ZeroDivisionError: division by zero" in verdict.message


def test_endless_loop_is_abandoned() -> None:
    """A loop that ignores its end is rejected after the deadline; an exception of another loop is returned."""
    ended = threading.Event()
    try:
        with pytest.raises(Rejected, match=r"has not ended after 0\.1 s\. Ask\."):
            run_loop(ended.wait, seconds=0.1, ends=lambda: "Ask.")
    finally:
        ended.set()
    assert isinstance(run_loop(lambda: 1 / 0, seconds=10, ends=str), ZeroDivisionError)


@pytest.mark.parametrize("is_global", [True, False], ids=["imported by a cell", "imported by the function"])
def test_a_function_uses_another_class_during_a_block(is_global: bool) -> None:
    """A class that a learner's cell or function imports is replaced during the block, and only then."""
    module = ModuleType("brokers")
    vars(module)["Consumer"] = original = type("Consumer", (), {})
    stand_in = type("Hesitant", (original,), {})
    names: dict[str, Any] = {"brokers": module, **({"Client": original} if is_global else {})}
    exec(f"def used():\n    return {'Client' if is_global else 'brokers.Consumer'}", names)
    with replacing(names["used"], module, original, stand_in):
        assert names["used"]() is stand_in
    assert names["used"]() is original


def test_a_hesitant_consumer_returns_nothing_at_every_third_poll() -> None:
    """It hesitates at its first poll, and at each third one after it."""
    consumer = HesitantConsumer({"bootstrap.servers": "127.0.0.1:1", "group.id": "nobody", "log_level": 0})
    consumer.close()
    assert [consumer._hesitates() for _ in range(5)] == [True, False, False, True, False]
