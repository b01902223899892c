"""The modules to mutate, each group with the quick tests that must catch its mutants."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Modules, and the arguments of the pytest run that tests them.

    Attributes
    ----------
    modules
        Paths of the modules.
    tests
        Arguments of pytest.
    seconds
        The limit of one run in seconds. A mutant that exceeds it counts as caught.
    definitions
        The functions to mutate; all if empty. The others need a lab.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    seconds: float = 300.0
    definitions: tuple[str, ...] = ()


SERVICES = ("order", "inventory", "payment", "shipping")
TARGETS = {
    "domains": Target(
        tuple(f"labservices/{name}/domain.py" for name in SERVICES), ("tests/services/test_domains.py",), 60.0
    ),
    "handlers": Target(
        tuple(f"labservices/{name}/handlers.py" for name in SERVICES),
        ("tests/services/test_handlers.py", "tests/services/test_saga.py", "tests/services/test_concurrency.py"),
    ),
    "handling": Target(
        ("labservices/messaging/handling.py", "labservices/messaging/parking.py", "labservices/messaging/inbox.py"),
        ("tests/services/test_parking.py", "tests/services/test_handlers.py"),
    ),
    "consumer": Target(
        ("labservices/messaging/consumer.py", "labservices/messaging/dead_letters.py", "labservices/messaging/lag.py"),
        (
            *("tests/services/test_consumer.py", "tests/services/test_dead_letter_topic.py"),
            *("tests/services/test_lag.py", "tests/services/test_parking.py"),
        ),
    ),
    "referee": Target(
        tuple(
            f"lab-stack/labstack/consistency/{name}.py"
            for name in ("agreement", "delivery", "facts", "invariants", "orders", "steps", "sums")
        ),
        ("tests/mutation/referee_walk.py",),
    ),
    "exercises": Target(
        ("labkit/exercises/tasks.py", "labkit/exercises/progress.py"), ("tests/labkit/test_checks.py",), 60.0
    ),
    "capstone": Target(
        ("labkit/capstone/referee.py",),
        ("tests/labkit/test_capstone.py", "-k", "defect or hold_for_correct or metric_must"),
        60.0,
        ("points_awarded_once", "no_unpaid_points", "each_booking_published", "one_trace", "metric_is_correct"),
    ),
}

LEFT_OUT = {
    r"core/ReplaceBinaryOperator_BitOr_.*": "nearly every | joins types, and Python rejects the others",
    r"core/ReplaceBinaryOperator_.*_BitOr|core/ReplaceBinaryOperator_.*_BitAnd|core/ReplaceBinaryOperator_.*_BitXor": (
        "no one writes a bitwise operator for a number by mistake"
    ),
    r"core/Replace(BinaryOperator|UnaryOperator)_.*(Shift|Invert)": "nor a shift",
    r"core/ReplaceComparisonOperator_.*_(Is|IsNot)": "a comparison of values by identity is a lint error",
}
"""Operators of cosmic-ray that are not used, as regular expressions, with the reason."""


def is_left_out(operator: str) -> bool:
    """Report whether an operator is not used."""
    return any(re.fullmatch(pattern, operator) for pattern in LEFT_OUT)
