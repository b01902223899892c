"""Checks of exercises at their boundaries, with invented facts instead of a lab."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pandas as pd
import pytest

from labkit.client.shop import Shop
from labkit.errors import KitError
from labkit.exercises import course, tasks
from labkit.exercises.base import Bench, Exercise, Verdict, right, wrong
from labkit.exercises.operations.alerting import SOLUTION, wrong_decisions
from labkit.exercises.operations.tracing import malformation
from labkit.exercises.tasks import Tasks
from labkit.inspect.look import Look
from labservices.contract import SERVICES
from labstack import Lab
from labstack.config.paths import LabPaths
from labstack.observability.prometheus import promtool
from labstack.state import LabState

ALL = {exercise.name: exercise for exercises in course().values() for exercise in exercises}
COMPONENTS = (*(f"{name}-db" for name in SERVICES), *SERVICES, "kafka", "connect", "envoy")
STOCK = {"earl-grey": 3, "last-one": 1, "gone": 0}
LAB = SimpleNamespace(
    status=lambda memory: SimpleNamespace(components=dict.fromkeys(COMPONENTS)),
    endpoints=SimpleNamespace(services=dict.fromkeys(SERVICES)),
    faults=SimpleNamespace(active={"payment": {"slow-handler": "0.4"}, "order": {"inbox-off": ""}}),
)
SHOP = SimpleNamespace(products=lambda: [{"sku": sku, "available": left} for sku, left in STOCK.items()])
GIVEN = SimpleNamespace(per_second=10, seconds=0.35)  # 3.5 seconds of work per second; 5 consumers are busy for 70%
BENCH = Bench(cast(Lab, LAB), cast(Shop, SHOP), cast(Look, SimpleNamespace()), GIVEN)


def consumers(number: Any, partitions: Any) -> dict[str, Any]:
    return {"consumers": number, "partitions": partitions}


@pytest.mark.parametrize(
    ("name", "answer", "outcome", "message"),
    [
        ("how-many-databases", 4, "right", "4: inventory-db, order-db, payment-db, shipping-db."),
        ("how-many-databases", "4, one for each service", "right", "4: inventory-db"),
        ("how-many-databases", "all", "wrong", "count them"),
        ("how-many-databases", 11, "wrong", "counted every component"),
        ("how-many-databases", 5, "wrong", "count them"),
        ("sold-out", "gone", "right", "gone"),
        ("sold-out", ["gone"], "right", "gone"),
        ("sold-out", "last-one", "wrong", "last-one has 1 available"),
        ("sold-out", "nothing", "wrong", "no such sku"),
        ("who-is-slow", "payment", "right", "payment"),
        ("who-is-slow", "Payment", "right", "payment"),
        ("who-is-slow", "order", "wrong", "as fast as usual"),
        ("who-is-slow", "kafka", "wrong", "not one of the four"),
        ("burn-rate-alert", 14.4, "wrong", "as a string"),
        ("slowest-twentieth", "{", "wrong", "no JSON"),
        ("slowest-twentieth", {"type": "timeseries", "targets": []}, "wrong", "an empty panel"),
        ("slowest-twentieth", {"type": "stat", "targets": [{"expr": "up"}]}, "wrong", "one number"),
        ("the-search", "payment", "wrong", "a dict of the parameters"),
        ("only-refunds", None, "wrong", "as a string"),
        ("your-own-connector", ["slot.name"], "wrong", "a dict, or a string of JSON"),
        (
            "your-own-connector",
            '{"name": "a", "config": {"slot.name": "outbox"}}',
            "wrong",
            "no stock would be reserved",
        ),
        ("two-producers", "murmur2_random", "wrong", "The answer is a dict"),
        ("no-idle-member", None, "wrong", "The answer is a dict"),
        ("how-many-consumers", consumers(5, 5), "right", "tried with 5"),
        ("how-many-consumers", consumers(5, 100), "right", "tried with 5"),
        ("how-many-consumers", consumers(5, 4), "wrong", "1 of 5 consumers would be idle"),
        ("how-many-consumers", consumers(6, 6), "wrong", "58% of their time. Even fewer"),
        ("how-many-consumers", consumers(4, 4), "wrong", "88% of their time, almost always"),
        ("how-many-consumers", consumers(3, 4), "wrong", "3.5 seconds of work: 3 consumers would never catch up"),
        ("how-many-consumers", consumers(5, 101), "wrong", "integers from 1 to 100"),
        ("how-many-consumers", consumers(0, 5), "wrong", "integers from 1 to 100"),
        ("how-many-consumers", consumers(5.0, 5), "wrong", "integers from 1 to 100"),
        ("how-many-consumers", {"consumers": 5}, "wrong", "dict(consumers"),
        ("how-many-consumers", 5, "wrong", "dict(consumers"),
    ],
)
def test_answer_at_a_boundary_has_its_outcome(
    monkeypatch: pytest.MonkeyPatch, name: str, answer: Any, outcome: str, message: str
) -> None:
    """An answer is right or wrong with the message of its mistake, up to the boundary and beyond it."""
    exercise = ALL[name]
    if hasattr(exercise, "run_trial"):
        monkeypatch.setattr(exercise, "run_trial", lambda bench, number: f"tried with {number}")
    verdict = exercise.check(BENCH, answer)
    assert (verdict.outcome, message in verdict.message) == (outcome, True), verdict


@pytest.mark.parametrize(
    ("traceparent", "fault"),
    [
        (f"00-{'a1' * 16}-{'b2' * 8}-01", ""),
        (f"00-{'a1' * 16}-{'b2' * 8}", "3 fields instead of 4"),
        (f"0-{'a1' * 16}-{'b2' * 8}-01", "version has 1 digits instead of 2"),
        (f"00-{'a1' * 15}-{'b2' * 8}-01", "trace id has 30 digits instead of 32"),
        (f"00-{'A1' * 16}-{'b2' * 8}-01", "trace id has capital letters"),
        (f"00-{'a1' * 16}-{'xy' * 8}-01", "span id has other characters"),
        (f"00-{'00' * 16}-{'b2' * 8}-01", "trace id has only zeros"),
        (f"ff-{'a1' * 16}-{'b2' * 8}-01", "version is ff"),
    ],
)
def test_a_malformed_traceparent_is_described(traceparent: str, fault: str) -> None:
    """A header against the W3C's format is answered with the field that is wrong; a well-formed one with nothing."""
    assert fault in malformation(traceparent)
    assert bool(fault) == bool(malformation(traceparent))


def test_slow_service_that_was_healed_makes_the_exercise_untouched() -> None:
    """If no service is slow any more, the answer is neither right nor wrong."""
    healed = Bench(
        cast(Lab, SimpleNamespace(endpoints=LAB.endpoints, faults=SimpleNamespace(active={}))), BENCH.shop, BENCH.look
    )
    assert ALL["who-is-slow"].check(healed, "payment").outcome == "untouched"


@pytest.mark.needs("prometheus")
def test_alert_stories_distinguish_the_solution_from_a_rule_with_one_window() -> None:
    """The solution's rules decide every story correctly; a long window alone still fires after the repair."""
    tool = promtool(LabPaths.of_user())
    if tool is None:
        pytest.skip("there is no promtool beside Prometheus")
    assert wrong_decisions(tool, SOLUTION) == []
    without_short = SOLUTION.replace("[5m]", "[1h]").replace("[30m]", "[6h]")
    assert ["still fires" in story.otherwise for story in wrong_decisions(tool, without_short)] == [True]


class Seven(Exercise):
    """An exercise whose answer is 7 beside the facts of its setup."""

    name, title, answer, why, mistakes = "seven", "Seven?", "answer = 7", "It is.", ()
    kind, level, minutes, hints = (
        "recall",
        1,
        2,
        ("Count.", "Use your fingers:\n    sum(1 for _ in fingers)", "It is 7."),
    )
    error: ClassVar[Exception | None] = None

    def setup(self, bench: Bench) -> tuple[str, dict[str, Any]]:
        return "Go.", {"number": 7}

    def check(self, bench: Bench, answer: Any) -> Verdict:
        if self.error:
            raise self.error
        return right("Yes.") if answer == bench.given.number else wrong("No.")


@pytest.fixture
def lab_state() -> LabState:
    return LabState("lab", data_generation=1)


@pytest.fixture
def lab(tmp_path: Path, lab_state: LabState) -> SimpleNamespace:
    return SimpleNamespace(
        _access=SimpleNamespace(paths=SimpleNamespace(state=tmp_path), state=lambda: lab_state),
        status=lambda memory: SimpleNamespace(components={}),
    )


@pytest.fixture
def book(lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    """Return the tasks of a course with one exercise."""
    monkeypatch.setattr(tasks, "course", lambda: {"00": [Seven()]})
    return Tasks(cast(Lab, lab), BENCH.shop, BENCH.look, "00")


def outcomes(book: Tasks, *answers: Any) -> list[str]:
    return [book.check("seven", answer).outcome for answer in answers]


def test_exercise_needs_its_setup_and_an_answer(book: Tasks) -> None:
    """Without a setup or an answer an exercise is untouched, which does not count as an attempt."""
    assert outcomes(book, 7) == ["untouched"]
    book.setup("seven")
    assert outcomes(book, ...) == ["untouched"]
    assert book._progress.entries()["seven"].get("attempts", 0) == 0
    assert book.in_progress() == ["seven"]
    assert book.score() == (0, 1)


def test_solved_exercise_stays_solved(book: Tasks) -> None:
    """Each answer is an attempt, and a wrong one after the right one changes nothing else."""
    assert book.setup("seven").number == book.given("seven").number == 7
    assert outcomes(book, 6) == ["wrong"]
    assert book.score() == (0, 1)
    assert outcomes(book, 7, 8) == ["right", "wrong"]
    assert book._progress.entries()["seven"]["attempts"] == 3
    assert book.score() == (1, 1)
    assert book.in_progress() == []
    book.forget()
    assert book.score() == (0, 1)


def test_single_value_of_a_table_is_the_answer(book: Tasks) -> None:
    """A column or table with one value stands for this value; one with more does not."""
    book.setup("seven")
    one, many = pd.DataFrame({"n": [7]}), pd.Series([7, 7])
    assert outcomes(book, one, one.n) == ["right", "right"]
    verdict = book.check("seven", many)
    assert verdict.outcome == "wrong"
    assert "Your answer has the type Series" in verdict.message


def test_setup_before_a_reset_of_the_lab_is_outdated(
    book: Tasks, lab_state: LabState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reset, a wrong answer or a missing object asks for another setup; a right answer stays right."""
    book.setup("seven")
    monkeypatch.setattr(Seven, "error", KitError("gone", next_step="-"))
    with pytest.raises(KitError, match="gone"):
        book.check("seven", 7)
    lab_state.data_generation = 2
    assert book.in_progress() == []
    lost = book.check("seven", 7)
    assert (lost.outcome, "The lab was reset after the setup" in lost.message) == ("untouched", True)
    monkeypatch.setattr(Seven, "error", None)
    assert book.check("seven", 6).message.startswith("No. The lab was reset after the setup")
    assert book.check("seven", 7).message == "Yes."


def test_check_that_fails_for_a_plain_answer_has_a_defect(book: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a check fails for a number or a text, the check has a defect; the learner made no mistake."""
    book.setup("seven")
    monkeypatch.setattr(Seven, "error", TypeError("a defect"))
    for answer in (7, 7.0, "7", None):
        with pytest.raises(TypeError, match="a defect"):
            book.check("seven", answer)
    assert outcomes(book, [7]) == ["wrong"]


def test_hints_go_from_the_first_to_the_third(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """Each call shows the next hint with its number, in another kernel, too; after the third hint it is repeated."""
    book.hint("seven")
    again = Tasks(book._bench.lab, book._bench.shop, book._bench.look, "00")
    for _ in range(3):
        again.hint("seven")
    assert capsys.readouterr().out.splitlines() == [
        "Hint 1 of 3: Count.",
        "Hint 2 of 3: Use your fingers:",
        "    sum(1 for _ in fingers)",
        "Hint 3 of 3: It is 7.",
        "Hint 3 of 3: It is 7.",
    ]


def test_cleanup_ends_the_setup(book: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """A cleanup ends the setup; without a setup there is nothing to clean up."""
    book.setup("seven")
    book.cleanup("seven")
    book.cleanup("seven")
    assert capsys.readouterr().out == "Go.\nNothing to clean up.\nNothing to clean up.\n"
    with pytest.raises(KitError, match="seven is not set up"):
        book.given("seven")


def test_unknown_exercise_error_lists_the_known_ones(book: Tasks) -> None:
    """The error for an unknown exercise lists those of the notebook."""
    with pytest.raises(KitError, match=r"no exercise 'eight'[\s\S]*seven"):
        book.check("eight", 8)
