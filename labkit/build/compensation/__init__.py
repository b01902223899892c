"""Step 3: handlers for refund and restock, and their undoing, under every order of arrival."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from labkit.build.compensation.deliveries import CANCEL, REFUND, RESTOCK, Deliveries
from labkit.build.compensation.requirements import REQUIREMENTS
from labkit.build.compensation.trials import create_tables, trials
from labkit.build.instances.instance import Instance, TwoInstances
from labkit.build.step import Task
from labkit.build.workplace import Workplace
from labstack.clients import databases


def try_out(place: Workplace, events: Sequence[str] = (RESTOCK, REFUND, CANCEL)) -> pd.DataFrame:
    """Deliver events of one return, and return what each of them adds to the ledger and to the outbox.

    Parameters
    ----------
    place : Workplace
        The learner's workplace.
    events : sequence of str
        The types of the events in the order of their arrival; the same type twice is a duplicate.
    """
    engine = databases.engine(place.environment["DATABASE_URL"])
    with Instance(place.file, place.environment) as one, Instance(place.file, place.environment) as other:
        create_tables(one, engine)
        deliveries = Deliveries(TwoInstances(one, other, engine))
        rows = []
        for event in deliveries.events(events, deliveries.new_order()):
            before = deliveries.seen(event["return_id"])
            errors = deliveries.deliver([event])
            after = deliveries.seen(event["return_id"])
            ledger = [f"{effect} {amount}" for effect, amount in (after.ledger - before.ledger).elements()]
            published = [f"{name} {reason}".strip() for name, reason in (after.events - before.events).elements()]
            failed = [error for _, error in errors]
            rows.append((event["type"], ", ".join(sorted(ledger)), ", ".join([*sorted(published), *failed])))
    engine.dispose()
    return pd.DataFrame(rows, columns=["arrives", "ledger", "published"])


HINTS = (
    "The four services solve the same problem: read labservices/payment/handlers.py, and the first lines of "
    "labservices/storage/steps.py. Notebook 03 shows the row that a cancel leaves behind.",
    "One row for each return, which every handler inserts if it is missing and locks before it reads: "
    "`insert(returns).values(...).on_conflict_do_nothing()`, then `select(returns).where(...).with_for_update()`. The "
    "row holds what was answered for each step, and whether the return is cancelled. Lock the charge, too, before you "
    "sum up the refunds of its order.",
    """def handle(event: dict[str, Any]) -> None:
    with engine.begin() as db:
        row = lock(db, event["return_id"])
        match event["type"]:
            case "RefundRequested":
                on_refund_requested(db, row, event)
            case "ReturnCancelled" | "CourierFailed":
                on_error(db, row, event)
            ...""",
)

TASK = Task(
    name="compensation",
    notebook="build-3",
    title="Step 3: handle() refunds and restocks a return, and undoes both.",
    requirements=REQUIREMENTS,
    hints=HINTS,
    trials=trials,
    try_out=try_out,
)
