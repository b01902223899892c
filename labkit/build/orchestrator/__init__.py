"""Step 5: an orchestrator leads the saga; the judge plays the relay, the broker, the clock and the participants."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from labkit.build.instances.instance import Instance, TwoInstances
from labkit.build.orchestrator.participants import Behaviour, Script
from labkit.build.orchestrator.requirements import REQUIREMENTS
from labkit.build.orchestrator.simulation import Simulation, require
from labkit.build.orchestrator.trials import trials
from labkit.build.program import ProgramFailed
from labkit.build.step import Task
from labkit.build.workplace import Workplace
from labstack.clients import databases


def try_out(
    place: Workplace, participants: Sequence[Behaviour] = ("done", "done", "done"), restart: bool = False
) -> pd.DataFrame:
    """Run the saga of one return, and return what view() shows after each call.

    Parameters
    ----------
    place : Workplace
        The learner's workplace.
    participants : sequence of str
        What warehouse, payment and courier do: ``done``, ``failed``, ``silent``, ``lost`` (done, without a reply) or
        ``late`` (the reply comes after 45 s).
    restart : bool
        Whether the process is killed after each call.
    """
    engine = databases.engine(place.environment["DATABASE_URL"])
    with Instance(place.file, place.environment) as one, Instance(place.file, place.environment) as other:
        require(one)
        simulation = Simulation(TwoInstances(one, other, engine))
        simulation.run(Script(tuple(participants)), views=True, restart=restart)
    engine.dispose()
    if problems := simulation.take_problems():
        raise ProgramFailed("; ".join(problems), next_step=f"correct {place.file.name}, then run this cell again")
    rows = [
        {"call": f"{function}()", **(view if isinstance(view, dict) else {"status": view})}
        for (function, _), view in zip(simulation.calls, simulation.views, strict=True)
    ]
    return pd.DataFrame(rows).fillna("")


HINTS = (
    "Draw the states and what moves a return from one to the next: a reply with done or failed, and a time-out. "
    "A return needs to remember which steps to undo, which command it waits for, and until when.",
    "A row for each return, with a stack of the steps whose effect must be assumed: push a step when its command is "
    "sent, pop it when it has failed or was undone. `select(...).with_for_update()` before each decision, the outbox "
    "row in the same transaction. Make the command_id from return_id and command; then one comparison, with the "
    "command that the row waits for, finds doubled and late replies.",
    """def on_reply(reply: dict[str, Any], now: float) -> None:
    with engine.begin() as db:
        saga = db.execute(select(sagas).where(...).with_for_update()).one_or_none()
        if saga is None or saga.waiting_for != reply["command_id"]:
            return
        if saga.status == "COMPENSATING":
            go_back(db, saga, saga.stack[:-1], now)
        elif ...""",
)

TASK = Task(
    name="orchestrator",
    notebook="build-5",
    title="Step 5: an orchestrator leads the saga of a return.",
    requirements=REQUIREMENTS,
    hints=HINTS,
    trials=trials,
    try_out=try_out,
)
