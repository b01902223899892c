"""The trials of step 5: crashes, late and doubled replies, participants that never answer, and 200 returns."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from sqlalchemy import inspect

from labkit.build.instances.instance import Instance, TwoInstances
from labkit.build.judging import Outcome, Requirement
from labkit.build.orchestrator.participants import STEPS, Behaviour, Script
from labkit.build.orchestrator.requirements import (
    DOUBLED,
    LATE,
    MANY,
    MEANING,
    NO_REPLY,
    ORDER,
    REVERSE,
    STORED,
    TOGETHER,
    VIEW,
)
from labkit.build.orchestrator.simulation import ReturnStory, Simulation, require
from labkit.build.program import ProgramFailed
from labkit.build.workplace import Workplace
from labstack.clients import databases

COLUMNS = {"id", "aggregatetype", "aggregateid", "type", "payload"}
RETURNS = 200
KILLS = 8
HAPPY = Script()


def with_step(number: int, behaviour: Behaviour, **ignored: int) -> Script:
    """Return a script in which the participant of step `number`, from 0, behaves so; the others do their steps."""
    steps: list[Behaviour] = ["done", "done", "done"]
    steps[number] = behaviour
    return Script(tuple(steps), ignored)


FAILS = [with_step(number, "failed") for number in range(len(STEPS))]


def trials(place: Workplace) -> Iterator[Outcome]:
    """Run the trials of the judge, in two instances of the orchestrator that share a database."""
    engine = databases.engine(place.environment["DATABASE_URL"])
    try:
        with Instance(place.file, place.environment) as first, Instance(place.file, place.environment) as second:
            require(first)
            there = inspect(engine)
            found = {column["name"] for column in there.get_columns("outbox")} if there.has_table("outbox") else set()
            if missing := sorted(COLUMNS - found):
                columns = ", ".join(f"outbox.{column}" for column in missing)
                raise ProgramFailed(
                    f"create_tables made no column {columns}.",
                    next_step="compare your tables with those that the notebook lists",
                )
            simulation = Simulation(TwoInstances(first, second, engine))
            yield from _stories(simulation, ORDER, [HAPPY])
            yield from _stories(simulation, REVERSE, FAILS)
            yield from _stories(simulation, STORED, [HAPPY, FAILS[2]], restart=True)
            yield from _stories(simulation, DOUBLED, [HAPPY, FAILS[2]], doubled=True)
            yield from _no_reply(simulation)
            yield from _late(simulation)
            yield _crashes(simulation)
            yield _views(simulation)
            yield _many(simulation)
    finally:
        engine.dispose()


def _stories(
    simulation: Simulation,
    requirement: Requirement,
    scripts: Sequence[Script],
    *,
    doubled: bool = False,
    restart: bool = False,
) -> Iterator[Outcome]:
    """Run one return for each script, and compare the commands, the effects and the final status."""
    for script in scripts:
        story = simulation.run(script, doubled=doubled, restart=restart)
        yield _compare(simulation, requirement, story)
    yield requirement.kept(f"{'; '.join(map(str, scripts))}: the right commands, one after the other.")


def _compare(simulation: Simulation, requirement: Requirement, story: ReturnStory, what: str = "") -> Outcome:
    problems = simulation.take_problems()
    status = story.view.get("status") if isinstance(story.view, dict) else None
    if story.commands != story.script.commands or not story.is_consistent or status != story.script.view["status"]:
        problems.append(f"{story}. Expected: {' → '.join(story.script.commands)}, then {story.script.view['status']}")
    if not problems:
        return requirement.kept(what or str(story.script))
    return requirement.broken(f"{what or story.script}: {'; '.join(problems)}.", MEANING[requirement])


def _crashes(simulation: Simulation) -> Outcome:
    """Kill the process at each point of each call of a saga that is undone."""
    script = FAILS[2]
    simulation.run(script)
    points = [
        (number, function, point)
        for number, (function, answer) in enumerate(simulation.calls)
        for point in (*(one for one in answer.points if one.startswith("commit")), "return")
        if function != "on_time"
    ]
    simulation.take_problems()
    late = [one for one in points if one[1] == "on_reply" and one[2] != "return" and one[0] < len(STEPS)]
    for number, function, point in late:
        story = simulation.run(script, crash=(number, point), late=True)
        problems = simulation.take_problems()
        if not story.is_consistent or problems:
            evidence = "; ".join([*problems, str(story)])
            what = f"killed in call {number + 1}, {function}(), at {point}, repeated after a time-out"
            return TOGETHER.broken(f"{what}: {evidence}.", MEANING[TOGETHER])
    for number, function, point in points:
        story = simulation.run(script, crash=(number, point))
        what = f"killed in call {number + 1}, {function}(), at {point}, then repeated"
        if not (outcome := _compare(simulation, TOGETHER, story, what)).kept:
            return outcome
    count = len(late) + len(points)
    return TOGETHER.kept(f"killed {count} times, at each commit and after each call: no command missing, none unknown.")


def _no_reply(simulation: Simulation) -> Iterator[Outcome]:
    silent = [with_step(number, behaviour) for number in range(len(STEPS)) for behaviour in ("lost", "silent")]
    for script in (*silent, with_step(2, "failed", UndoRefund=2)):
        story = simulation.run(script)
        yield _compare(simulation, NO_REPLY, story)
    reason = story_reason(simulation)
    if reason != "timeout":
        yield NO_REPLY.broken(f"failure_reason after a time-out is {reason!r}.", MEANING[NO_REPLY])
    yield NO_REPLY.kept(f"{len(silent)} returns without a reply, one whose UndoRefund is ignored twice.")


def story_reason(simulation: Simulation) -> object:
    """Return the failure_reason of a return whose first step timed out."""
    view = simulation.run(with_step(0, "silent")).view
    return view.get("failure_reason") if isinstance(view, dict) else view


def _late(simulation: Simulation) -> Iterator[Outcome]:
    for number in range(len(STEPS)):
        story = simulation.run(with_step(number, "late"))
        yield _compare(simulation, LATE, story)
    count = 0
    for reply_first in (True, False):
        points = ["commit:1"]
        while points:
            point = points.pop(0)
            outcome, more = _race(simulation, point, reply_first=reply_first)
            count += 1
            yield outcome
            if point == "commit:1":
                points = [one for one in more if one not in ("begin:1", "commit:1")]
    yield _doubled_at_once(simulation)
    yield LATE.kept(f"{len(STEPS)} late replies; {count} times reply and time-out at the same time, one reply twice.")


def _race(simulation: Simulation, point: str, *, reply_first: bool) -> tuple[Outcome, list[str]]:
    """Handle a reply and its time-out at the same time; one of the two wins."""
    request = simulation.request(HAPPY)
    simulation.call("start_return", request, simulation.now)
    simulation.relay()
    (reply,) = simulation.due()
    simulation.now += 31
    calls = [("on_reply", reply, simulation.now), ("on_time", simulation.now)]
    one, other = calls if reply_first else reversed(calls)
    answers = simulation.at_once(one, other, point)
    sent = simulation.relay()
    story = simulation.story(request["return_id"])
    problems = simulation.take_problems()
    what = f"{one[0]}() waits at {point}, while {other[0]}() runs"
    if sent in (["RefundMoney"], ["UndoRestock"]) and not problems:
        _finish(simulation)
        return LATE.kept(what), list(answers[0].points)
    evidence = "; ".join([*problems, _they_sent(sent), str(story)])
    _finish(simulation)
    return LATE.broken(f"{what}: {evidence}.", MEANING[LATE]), []


def _they_sent(commands: list[str]) -> str:
    """Name the commands of two calls at the same time, in alphabetical order: their own order is chance."""
    return f"they sent {' and '.join(sorted(commands)) or 'no command'}"


def _doubled_at_once(simulation: Simulation) -> Outcome:
    request = simulation.request(HAPPY)
    simulation.call("start_return", request, simulation.now)
    simulation.relay()
    (reply,) = simulation.due()
    call = ("on_reply", reply, simulation.now)
    simulation.at_once(call, call, "commit:1")
    sent = simulation.relay()
    problems = simulation.take_problems()
    if sent == ["RefundMoney"] and not problems:
        _finish(simulation)
        return LATE.kept("one reply twice at the same time")
    evidence = "; ".join([*problems, _they_sent(sent)])
    return LATE.broken(f"one reply in two instances at the same time: {evidence}.", MEANING[LATE])


def _finish(simulation: Simulation) -> None:
    """Deliver what is left, so that the sagas of a trial end."""
    for _ in range(8):
        for reply in simulation.due():
            simulation.call("on_reply", reply, simulation.now)
        simulation.relay()
    simulation.take_problems()


def _views(simulation: Simulation) -> Outcome:
    """Call view() after each call of a saga that completes and of one that is undone."""
    running = [("RUNNING", step.command, list(names), None) for step, names in zip(STEPS, DONE, strict=True)]
    refused = "courier_refused"
    undone = [
        ("COMPENSATING", "UndoRefund", DONE[2], refused),
        ("COMPENSATING", "UndoRestock", DONE[1], refused),
        ("CANCELLED", None, [], refused),
    ]
    completed = [("COMPLETED", None, [step.name for step in STEPS], None)]
    count = 0
    for script, wanted in ((HAPPY, [*running, *completed]), (FAILS[2], [*running, *undone])):
        simulation.run(script, views=True)
        names = ("status", "waiting_for", "done", "failure_reason")
        for seen, values in zip(simulation.views, wanted, strict=False):
            expected = dict(zip(names, values, strict=True))
            count += 1
            if seen != expected:
                return VIEW.broken(f"{script}: view() returns {seen}. Expected: {expected}.", MEANING[VIEW])
    if problems := simulation.take_problems():
        return VIEW.broken("; ".join(problems), MEANING[VIEW])
    return VIEW.kept(f"{count} views of two returns, one that completes and one that is undone.")


DONE = [[step.name for step in STEPS[:number]] for number in range(len(STEPS))]


def _many(simulation: Simulation) -> Outcome:
    """Run 200 returns with all behaviours at once, and kill the process in some of the calls."""
    chance = random.Random(5)
    behaviours: list[Behaviour] = ["failed", "silent", "lost", "late"]
    scripts = [
        HAPPY if chance.random() < 0.5 else with_step(chance.randrange(len(STEPS)), chance.choice(behaviours))
        for _ in range(RETURNS)
    ]
    requests = [simulation.request(script) for script in scripts]
    killed = set(chance.sample(range(2 * RETURNS), KILLS))
    calls = 0

    def call(function: str, *arguments: object) -> None:
        nonlocal calls
        crash = chance.choice(["commit:1", "return"]) if calls in killed else ""
        calls += 1
        simulation.call(function, *arguments, crash=crash)

    for request in requests:
        call("start_return", request, simulation.now)
    quiet = 0
    while quiet < 5:
        simulation.relay()
        replies = simulation.due()
        replies += chance.sample(replies, len(replies) // 5)  # doubled
        chance.shuffle(replies)
        for reply in replies:
            call("on_reply", reply, simulation.now)
        quiet = 0 if replies else quiet + 1
        if not replies:
            simulation.now += 16
            call("on_time", simulation.now)
    stories = [simulation.story(request["return_id"]) for request in requests]
    problems = simulation.take_problems()
    wrong = [
        story
        for story in stories
        if not story.is_consistent or story.commands != story.script.commands or story.view != story.script.view
    ]
    if wrong:
        problems.append(f"{len(wrong)} of {RETURNS} returns are wrong, such as ({wrong[0].script}): {wrong[0]}")
    if problems:
        return MANY.broken("; ".join(problems[:3]), MEANING[MANY])
    ends = Counter(story.view["status"] for story in stories)
    return MANY.kept(
        f"{RETURNS} returns, {simulation.kills} kills: {ends['COMPLETED']} COMPLETED with three steps done, "
        f"{ends['CANCELLED']} CANCELLED with nothing left; each view agrees."
    )
