"""A learner's test of a saga, tried on real orders and on broken ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from labkit.exercises.base import Bench, Verdict, Wrong, right
from labkit.exercises.own_code import CodeExercise, Function, Rejected

ORDERS = {
    "completed": ("radia", "madrid"),
    "declined": ("penniless-pia", "rome"),
    "no carrier": ("edsger", "tristan-da-cunha"),
}
LEDGER = "SELECT effect, amount_cents FROM ledger_entries WHERE order_id = %(order)s ORDER BY at"
Saga = dict[str, Any]


class TestOfASaga(CodeExercise):
    """A test of a saga states what must hold at its end, whatever happened on the way."""

    __test__ = False  # not a test of pytest

    name = "test-of-a-saga"
    title = "Write a test that accepts every correct saga and finds every broken one"
    level = 2
    minutes = 18
    functions = ("check_saga(saga)",)
    hints = (
        "Two ends are possible. What must be true of the money, and of each step and its undo event, at each of them?",
        'saga["events"].count(...) for each pair of a success and its undo; a signed sum over saga["ledger"]. '
        "assert, once "
        "for each rule. An undo without its step is as wrong as a step without its undo.",
        'It begins:\n    assert saga["status"] in ("COMPLETED", "CANCELLED")',
    )
    answer = """
        UNDO = {"InventoryReserved": "InventoryReleased",
                "PaymentCompleted": "PaymentRefunded",
                "ShipmentScheduled": "ShipmentCancelled"}

        def check_saga(saga):
            assert saga["status"] in ("COMPLETED", "CANCELLED")
            is_completed = saga["status"] == "COMPLETED"
            kept = sum(cents if effect == "capture" else -cents for effect, cents in saga["ledger"])
            assert kept == (saga["total_cents"] if is_completed else 0)
            for step, undo in UNDO.items():
                done, undone = saga["events"].count(step), saga["events"].count(undo)
                assert done == 1 if is_completed else done <= 1
                assert undone == (0 if is_completed else done)

        answer = check_saga
    """
    why = (
        "The test does not prescribe a path; it states what must hold at the end. So it is valid for each failure, "
        "each order of arrival and each new step, and it can run after a load test or a drill. The lab's referee "
        "(`lab check`) is such a test, over all orders at once."
    )
    mistakes = (
        Wrong(
            """
            def check_saga(saga):
                assert saga["status"] in ("COMPLETED", "CANCELLED")

            answer = check_saga
            """,
            "passes although",
        ),
        Wrong(
            """
            def check_saga(saga):
                assert saga["status"] == "COMPLETED"
                assert "OrderCompleted" in saga["events"]

            answer = check_saga
            """,
            "correct",
        ),
        Wrong(
            """
            def check_saga(saga):
                assert saga["status"] in ("COMPLETED", "CANCELLED")
                kept = sum(cents if effect == "capture" else -cents for effect, cents in saga["ledger"])
                assert kept == (saga["total_cents"] if saga["status"] == "COMPLETED" else 0)

            answer = check_saga
            """,
            "released",
        ),
        Wrong(
            """
            def check_saga(saga):
                return saga["status"] in ("COMPLETED", "CANCELLED")

            answer = check_saga
            """,
            "assert",
        ),
    )

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        orders = {
            name: bench.shop.follow(bench.shop.place_order(who, where, {"matcha": 1}))
            for name, (who, where) in ORDERS.items()
        }
        bench.look.wait_for_rest([order.order_id for order in orders.values()])
        sagas = {name: _saga(bench, order.order_id) for name, order in orders.items()}
        message = "\n".join(
            f"given.sagas[{name!r}]: {saga['status']}, {len(saga['events'])} events" for name, saga in sagas.items()
        )
        return message, {"sagas": sagas}

    def try_out(self, bench: Bench, *functions: Any) -> Verdict:
        (check_saga,) = functions
        sagas = bench.given.sagas
        for name, saga in sagas.items():
            result, failed = _run(check_saga, saga)
            if failed:
                raise Rejected(
                    f"The saga {name!r} is correct, and your test rejects it. Each such alarm costs a night's sleep."
                )
            if result is not None:
                raise Rejected("A test does not return its result; it raises an AssertionError: assert ...")
        for name, meaning, change in BROKEN:
            broken = copy.deepcopy(sagas[name])
            change(broken)
            if not _run(check_saga, broken)[1]:
                raise Rejected(f"Your test passes although {meaning}.")
        return right(f"3 real sagas pass, and {len(BROKEN)} broken ones are found.")


def _saga(bench: Bench, order_id: str) -> Saga:
    """Return the facts of an order: its status and total, its ledger, and the types of its events."""
    order = bench.shop.order(order_id)
    ids = {view.record.headers["ce_id"]: view.record.type for view in bench.look.kafka.records(order_id)}
    ledger = bench.look.db.rows("payment", LEDGER, order=order_id)
    return {
        "status": order.status,
        "total_cents": order.total_cents,
        "events": list(ids.values()),
        "ledger": [[effect, int(cents)] for effect, cents in zip(ledger.effect, ledger.amount_cents, strict=True)],
    }


def _run(check_saga: Function, saga: Saga) -> tuple[Any, bool]:
    """Return the result of the learner's test, and whether it failed."""
    try:
        return check_saga(copy.deepcopy(saga)), False
    except AssertionError:
        return None, True
    except Exception as error:
        raise Rejected(f"Your test does not fail, it breaks: {type(error).__name__}: {error}.") from error


def _without(event: str) -> Callable[[Saga], None]:
    return lambda saga: saga["events"].remove(event)


def _with(*events: str) -> Callable[[Saga], None]:
    return lambda saga: saga["events"].extend(events)


def _without_refund(saga: Saga) -> None:
    saga["ledger"] = saga["ledger"][:1]


def _refunded_twice(saga: Saga) -> None:
    saga["ledger"].append(saga["ledger"][-1])


def _half_refunded(saga: Saga) -> None:
    saga["ledger"][-1][1] //= 2


def _free_of_charge(saga: Saga) -> None:
    saga["ledger"] = []


def _still_cancelling(saga: Saga) -> None:
    saga["status"] = "CANCELLING"


BROKEN: tuple[tuple[str, str, Callable[[Saga], None]], ...] = (
    ("no carrier", "the money of a cancelled order was not refunded", _without_refund),
    ("no carrier", "a customer was refunded twice", _refunded_twice),
    ("no carrier", "a customer got back half of the money", _half_refunded),
    ("completed", "a completed order was never charged", _free_of_charge),
    ("no carrier", "the goods of a cancelled order were never released", _without("InventoryReleased")),
    ("no carrier", "a shipment was cancelled that was never scheduled", _with("ShipmentCancelled")),
    ("declined", "payment published a refund of a payment that was declined", _with("PaymentRefunded")),
    ("completed", "the goods of a completed order were released, and can be sold twice", _with("InventoryReleased")),
    ("no carrier", "the order has stopped in CANCELLING, and waits for an answer that never comes", _still_cancelling),
)
"""The broken sagas: which order, what is wrong, and the change that makes it so."""
