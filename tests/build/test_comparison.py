"""The comparison of choreography with orchestration, after step 5."""

from __future__ import annotations

from collections import deque
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import create_engine, text

from labkit.build import task
from labkit.build.instances.instance import Instance
from labkit.build.orchestrator import comparison
from labkit.build.orchestrator.comparison import FILES, INSPECTION, ROWS, load
from labkit.build.orchestrator.table import IN_WORDS, compare_table, measure_forms
from labstack import Lab
from tests.build.conftest import MakePlace

REFERENCE = task("orchestrator").reference
FIRST_STEP = '    ("restock", "warehouse", "RestockGoods", "UndoRestock", ("sku", "quantity")),\n'


def test_both_forms_are_measured(course_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choreography needs 4 messages and orchestration 7, and 6 and 11 if the last step is refused."""
    monkeypatch.setattr(comparison, "RETURNS", 2)
    measured = measure_forms(FILES / "reference.py", course_lab)
    assert measured.columns.to_list() == ["choreography", "orchestration"]
    counts = [measured.loc[row].to_list() for row in ROWS if "milliseconds" not in row]
    assert counts == [[4, 7], [6, 11], [3, 1], [3, 1]]
    assert all(value > 0 for row in ROWS for value in measured.loc[row])


@pytest.mark.parametrize(
    ("file", "refused", "effects"),
    [
        ("choreography", None, ["restock", "refund", "courier", "complete"]),
        ("choreography_with_inspection", None, ["restock", "inspect", "refund", "courier", "complete"]),
        ("choreography_with_inspection", "inspect", ["restock", "undo restock", "cancel"]),
    ],
)
def test_choreographies_complete(make_place: MakePlace, file: str, refused: str | None, effects: list[str]) -> None:
    """The choreography whose changed lines are counted works, with and without the further step."""
    engine = create_engine(make_place("").environment["DATABASE_URL"])
    module = load(FILES / f"{file}.py")
    with engine.begin() as db:
        module.create_tables(db)
        module.publish(db, "ReturnRequested", {"return_id": "return-1", "refused": refused})
        events: deque[Any] = deque([...])
        while events:
            events.popleft()
            rows = db.execute(text("DELETE FROM outbox RETURNING id, type, payload")).all()
            for row in rows:
                for service in module.REACTIONS:
                    module.handle(db, service, str(row.id), row.type, row.payload)
            events.extend(rows)
        seen = db.execute(text("SELECT effect FROM effects")).scalars().all()
    engine.dispose()
    assert seen == effects


def test_a_further_step_is_one_line_of_the_orchestrator(make_place: MakePlace) -> None:
    """The reference with one more line in its table of steps sends the command of the further step."""
    assert FIRST_STEP in REFERENCE
    place = make_place(REFERENCE.replace(FIRST_STEP, FIRST_STEP + INSPECTION))
    engine = create_engine(place.environment["DATABASE_URL"])
    commands = []
    with Instance(place.file, place.environment) as instance:
        instance.call("create_tables")
        request = {
            "return_id": "return-1",
            "order_id": "order-1",
            "sku": "earl-grey",
            "quantity": 3,
            "amount_cents": 890,
        }
        instance.call("start_return", request, 0.0)
        while True:
            with engine.begin() as db:
                rows = db.execute(text("DELETE FROM outbox RETURNING type, payload")).all()
            if not rows:
                break
            commands += [row.type for row in rows]
            reply = {
                "command_id": rows[0].payload["command_id"],
                "return_id": "return-1",
                "outcome": "done",
                "reason": None,
            }
            instance.call("on_reply", reply, 0.0)
        assert instance.call("view", "return-1").value["status"] == "COMPLETED"
    engine.dispose()
    assert commands == ["RestockGoods", "InspectGoods", "RefundMoney", "BookCourier"]


def test_the_table_compares_answers_with_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    """A count fits if it is equal, a time within a factor of three; words are shown beside the lab's."""
    measured = pd.DataFrame(
        {"choreography": [4, 6, 80, 120, 3, 3], "orchestration": [7, 11, 200, 300, 1, 1]}, index=list(ROWS)
    )
    knows = "what a participant must know"
    mine = {ROWS[0]: (4, 8), ROWS[2]: (200, 700), ROWS[3]: (..., ...), knows: ("all events", ...)}
    table = compare_table(mine, measured)
    assert table.loc[(ROWS[0], "choreography")].to_list() == [4, 4, "✓"]
    assert table.loc[(ROWS[0], "orchestration")].to_list() == [8, 7, "✗"]
    assert table.loc[ROWS[2]]["fits"].to_list() == ["✓", "✗"]
    assert table.loc[ROWS[3]]["fits"].to_list() == ["○", "○"]
    assert len(table) == 2 * len(ROWS)
    printed = " ".join(capsys.readouterr().out.split())
    assert "choreography, yours: all events" in printed
    assert all(words in printed for pair in IN_WORDS.values() for words in pair)
