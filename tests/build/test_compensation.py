"""Step 3: the judge's report about unusable files, and the output of `step.run`."""

from __future__ import annotations

import pytest

from labkit.build import task
from tests.build.conftest import MakePlace

TASK = task("compensation")


@pytest.mark.parametrize(
    ("old", "new", "evidence"),
    [
        ('    Column("effect", Text, nullable=False),\n', "", "create_tables made no column ledger.effect"),
        ("    metadata.create_all(engine)\n", "    create_every_table()\n", "NameError"),
        ('"outbox",\n', '"out box",\n', "outbox.aggregateid"),
    ],
    ids=["a missing column", "an error in create_tables", "a missing table"],
)
def test_missing_tables_are_reported(make_place: MakePlace, old: str, new: str, evidence: str) -> None:
    """A file that does not create its tables breaks the first requirement, and the evidence names what is missing."""
    assert old in TASK.reference
    report = TASK.judge(make_place(TASK.reference.replace(old, new)))
    outcome = report.of(1)
    assert outcome
    assert not outcome.kept
    assert evidence in outcome.evidence


def test_a_file_that_does_not_start_is_reported(make_place: MakePlace) -> None:
    """A file with a syntax error breaks the first requirement."""
    outcome = TASK.judge(make_place("def handle(event:\n")).of(1)
    assert outcome
    assert "SyntaxError" in outcome.evidence


def test_run_shows_what_each_event_adds(make_place: MakePlace) -> None:
    """`step.run` returns a row for each event with its ledger rows and events."""
    shown = TASK.try_out(make_place(TASK.reference), events=["RefundRequested", "ReturnCancelled", "ReturnCancelled"])
    assert shown.to_numpy().tolist() == [
        ["RefundRequested", "refund 2000", "MoneyRefunded"],
        ["ReturnCancelled", "refund_undone 2000", "RefundReversed"],
        ["ReturnCancelled", "", ""],
    ]
