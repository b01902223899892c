"""Step 5: the judge's report about unusable files, and the output of `step.run`."""

from __future__ import annotations

from labkit.build import task
from tests.build.conftest import MakePlace

TASK = task("orchestrator")


def test_run_shows_the_view_after_each_call(make_place: MakePlace) -> None:
    """`step.run` returns the view after each call, also if the process is killed after each of them."""
    shown = TASK.try_out(make_place(TASK.reference), participants=["done", "failed", "done"], restart=True)
    assert shown.to_numpy().tolist() == [
        ["start_return()", "RUNNING", "RestockGoods", [], ""],
        ["on_reply()", "RUNNING", "RefundMoney", ["restock"], ""],
        ["on_reply()", "COMPENSATING", "UndoRestock", ["restock"], "refund_refused"],
        ["on_reply()", "CANCELLED", "", [], "refund_refused"],
    ]


def test_a_table_that_is_missing_is_reported(make_place: MakePlace) -> None:
    """A file without an outbox breaks the first requirement, and the evidence names what is missing."""
    outcome = TASK.judge(make_place(TASK.reference.replace('"outbox",', '"messages",'))).of(1)
    assert outcome
    assert not outcome.kept
    assert "outbox.payload" in outcome.evidence
