"""The trials of the consumer: duplicates, crashes, a frozen instance, poison, a rebalance, an outage, a shutdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from labkit.build.consumer.line import REFUSAL, Parcel, PrivateGroup, accept_all, refuse
from labkit.build.consumer.requirements import (
    CRASHES,
    DEAD_LETTERS,
    ONCE,
    OTHERS_FLOW,
    OUTAGE,
    REBALANCE,
    SHUTDOWN,
    TWO_INSTANCES,
)
from labkit.build.judging import Outcome
from labkit.build.program import LearnerProcess
from labkit.build.workplace import Workplace
from labstack.clients.broker import Record
from labstack.waiting import poll_until

DOUBLE = "A customer is refunded twice for one parcel."
LOST = "A customer has sent the goods back, and is never refunded."
AT_ONCE = 3
"""Number of trials that run at the same time; they mostly wait for the group's coordinator."""


def trials(place: Workplace) -> Iterator[Outcome]:
    """Run all trials; those that need the database for themselves come last."""
    place.environment.update(PrivateGroup(place, "first").settings)
    (result,) = place.call("create_tables")
    if result.error:
        yield ONCE.broken(f"create_tables() raised {result.error}", LOST)
        return
    place.execute(*REFUSAL)
    parallel: list[Callable[[Workplace], list[Outcome]]] = [_once, _crashes, _two_instances, _poison, _rebalance]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [pool.submit(trial, place) for trial in parallel]
        try:
            for future in running:
                yield from future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    yield from _outage(place)
    yield from _shutdown(place)


def _died(program: LearnerProcess) -> str:
    """Return how an instance has ended, with the last line of its output."""
    last = (program.output(1) or "it printed nothing").strip()
    return f"the process ended with status {program.status}: {last[:200]}"


def _counted(numbers: dict[Parcel, int]) -> str:
    """Return the numbers of refunds in the order of the parcels."""
    return f"refunds of each parcel: {', '.join(str(number) for number in numbers.values())}"


def _meaning(numbers: dict[Parcel, int]) -> str:
    return DOUBLE if any(number > 1 for number in numbers.values()) else LOST


def _once(place: Workplace) -> list[Outcome]:
    """Send each parcel twice."""
    line = PrivateGroup(place, "once")
    program = line.start()
    parcels = [Parcel() for _ in range(6)]
    for number, parcel in enumerate(parcels):
        line.send(parcel, parcel, partition=number % 3)
    line.await_refunds(parcels, [program])
    line.await_commits(program)
    found = line.refunds(parcels)
    died = "" if program.is_alive else f"; {_died(program)}"
    program.close()
    seen = f"6 parcels, each sent twice: {_counted(found)}{died}"
    if set(found.values()) == {1} and not died:
        return [ONCE.kept(f"{seen}.")]
    return [ONCE.broken(seen, _meaning(found))]


CRASH_POINTS = {
    "before-commit:3": "before database commit 3",
    "after-commit:3": "after database commit 3",
    "after-commit:4": "after database commit 4",
    "after-offset-commit:3": "after offset commit 3",
}


def _crashes(place: Workplace) -> list[Outcome]:
    """Kill the process at several points while it handles four parcels.

    One process is held before a database commit, long enough for the client to commit offsets in the background.
    """
    parcels = {point: [Parcel() for _ in range(4)] for point in (*CRASH_POINTS, "held")}
    lines = {point: PrivateGroup(place, f"crash{number}", 1) for number, point in enumerate(parcels)}
    programs = {
        point: line.start(crash=point) if point in CRASH_POINTS else line.start(hold=["before-commit:3"])
        for point, line in lines.items()
    }
    for point, line in lines.items():
        line.send(*parcels[point], partition=0)
    facts = [_background_commit(lines["held"], programs["held"])]
    for point in CRASH_POINTS:
        lines[point].await_refunds(parcels[point], [programs[point]])  # a program that lacks this point is killed now
    for program in programs.values():
        program.kill()
    facts += _order_of_commits(programs["after-offset-commit:3"], parcels["held"])
    again = {point: line.start() for point, line in lines.items()}
    faults: list[str] = []
    counts: dict[Parcel, int] = {}
    for point, line in lines.items():
        line.await_refunds(parcels[point], [again[point]])
        line.await_commits(again[point])
        found = line.refunds(parcels[point])
        if set(found.values()) != {1}:
            faults.append(f"killed {CRASH_POINTS.get(point, 'while it handled parcel 3')}: {_counted(found)}")
            counts |= found
        again[point].close()
    facts = [fact for fact in facts if fact]
    if not faults and not facts:
        return [CRASHES.kept(f"killed {', '.join(CRASH_POINTS.values())}: each time one refund for each parcel.")]
    return [CRASHES.broken("\n".join([*facts, *faults]), _meaning(counts) if counts else LOST)]


def _background_commit(line: PrivateGroup, program: LearnerProcess) -> str:
    """Return a sentence if the offset of the held record, or of a later one, is committed while it is held."""
    program.wait_for("held")
    poll_until(lambda: line.committed().get(0, 0) > 2, 2)
    if line.committed().get(0, 0) <= 2:
        return ""
    (config, *_) = program.passed("consumer")
    setting = config.detail.get("enable.auto.commit")
    automatic = str(setting).lower() != "false"
    why = " by the client in the background, since enable.auto.commit is on" if automatic else ""
    return f"while parcel 3 was being handled, its offset was committed{why}"


def _order_of_commits(program: LearnerProcess, parcels: list[Parcel]) -> list[str]:
    journal = [passage.point for passage in program.journal]
    offset, database = journal.count("before-offset-commit"), journal.count("before-commit")
    facts = []
    if offset and (not database or journal.index("before-offset-commit") < journal.index("before-commit")):
        facts.append("the offset is committed before the database transaction")
    if database >= 2 * min(3, len(parcels)) and offset <= database // 2 + 1:
        facts.append(f"{database} database transactions for {max(offset, 1)} parcels: refund and inbox are apart")
    return facts


def _two_instances(place: Workplace) -> list[Outcome]:
    """Freeze an instance in its transaction for longer than its session; another takes over; the first one wakes up."""
    line = PrivateGroup(place, "two", 2)
    frozen = line.start(hold=["before-commit:1"])
    parcel, later = Parcel(), [Parcel(), Parcel()]
    line.send(parcel, partition=0)
    frozen.wait_for("held")
    frozen.freeze()
    other = line.start()
    poll_until(lambda: bool(other.passed("after-commit")) or place.waits_for_lock(other) or not other.is_alive, 40)
    frozen.release("before-commit:1")
    frozen.thaw()
    for number, one in enumerate(later):
        line.send(one, partition=number)
    line.await_refunds([parcel, *later], [frozen, other])
    poll_until(lambda: bool(line.lag() == 0 and frozen.passed("after-commit")) or not frozen.is_alive, 15)
    found = line.refunds([parcel, *later])
    seen = f"an instance froze in its transaction, another got its partition, the first woke up: {_counted(found)}"
    dead = [program for program in (frozen, other) if not program.is_alive]
    outcome = TWO_INSTANCES.kept(f"{seen}; both run.")
    if set(found.values()) != {1}:
        outcome = TWO_INSTANCES.broken(seen, _meaning(found))
    elif dead:
        outcome = TWO_INSTANCES.broken(
            f"{seen}; {_died(dead[0])}", "Each pause of a machine costs an instance; after some, no refund is paid."
        )
    frozen.close()
    other.close()
    return [outcome]


def _poison(place: Workplace) -> list[Outcome]:
    """Let a refund fail twice, and send values that no attempt can handle."""
    line = PrivateGroup(place, "poison", retry_seconds=8)
    bad, behind, elsewhere = Parcel(), Parcel(), [Parcel(), Parcel()]
    refuse(place, bad)
    program = line.start()
    line.send(bad, behind, partition=0)
    poll_until(lambda: bool(program.passed("rollback")) or not program.is_alive, 30)
    for number, parcel in enumerate(elsewhere, start=1):
        line.send(parcel, partition=number)
    line.await_refunds(elsewhere, [program])
    outcomes = [_flow_outcome(program, _handled_between_attempts(program))]
    poll_until(lambda: bool(line.dead_letters()) or not program.is_alive, 20)
    last = Parcel()
    place.produce(line.topic, "{not JSON", "a", {"ce_id": "5e7b1c0a-0000-4000-8000-000000000001"}, 1)
    place.produce(line.topic, Parcel().value, "b", {}, 1)
    line.send(last, partition=1)
    line.await_refunds([behind, last, *elsewhere], [program])
    outcomes.append(_dead_letter_outcome(line, program, bad, [behind, last]))
    program.close()
    return outcomes


def _handled_between_attempts(program: LearnerProcess) -> int:
    """Return the number of database transactions between the first failure and the next one."""
    points = [passage.point for passage in program.journal]
    if "rollback" not in points:
        return points.count("after-commit")
    after = points[points.index("rollback") + 1 :]
    until = after.index("rollback") if "rollback" in after else len(after)
    return min(after[:until].count("after-commit"), 2)


def _flow_outcome(program: LearnerProcess, flowed: int) -> Outcome:
    seen = f"while a record of partition 0 waited for its next attempt, {flowed} of 2 parcels of others were refunded"
    if not program.is_alive:
        return OTHERS_FLOW.broken(f"a refund failed; {_died(program)}", "One bad parcel stops every refund.")
    if flowed < 2:
        return OTHERS_FLOW.broken(seen, "One bad parcel delays the refunds of all customers.")
    return OTHERS_FLOW.kept(f"{seen}.")


def _dead_letter_outcome(line: PrivateGroup, program: LearnerProcess, bad: Parcel, good: list[Parcel]) -> Outcome:
    letters = line.dead_letters()
    faults = []
    if not program.is_alive:
        faults.append(_died(program))
    letter = next((one for one in letters if one.headers.get("ce_id") == bad.event_id), None)
    if letter is None:
        lag = line.lag()
        where = "its offset is committed" if not lag else f"{lag} records wait behind it"
        faults.append(f"the refused parcel has no refund and no dead letter, and {where}")
    else:
        faults += _letter_faults(letter, line, bad)
    values = [letter.value for letter in letters]
    if b"{not JSON" not in values:
        faults.append("the value that is no JSON is not in the dead-letter topic")
    if not any(letter.key == "b" for letter in letters):
        faults.append("the record without ce_id is not in the dead-letter topic")
    if len(letters) > 3:
        faults.append(f"{len(letters)} dead letters for 3 records")
    if missing := sum(not number for number in line.refunds(good).values()):
        faults.append(f"{missing} of {len(good)} parcels behind the bad records have no refund")
    if not faults:
        return DEAD_LETTERS.kept(
            "3 bad records, 3 dead letters with their cause; the parcels behind them are refunded."
        )
    lost = any("no dead letter" in fault for fault in faults)
    meaning = (
        "The refund is lost without a trace: no one can find out that it failed, or send it again."
        if lost
        else "Support cannot see what failed and why, or customers behind the bad record wait forever."
    )
    return DEAD_LETTERS.broken("\n".join(faults), meaning)


def _letter_faults(letter: Record, line: PrivateGroup, bad: Parcel) -> list[str]:
    expected = {
        **bad.headers,
        "dlq.topic": line.topic,
        "dlq.partition": "0",
        "dlq.offset": "0",
        "dlq.attempts": "2",
    }
    faults = [
        f"the dead letter's header {name} is {letter.headers.get(name)!r}, and must be {value!r}"
        for name, value in expected.items()
        if letter.headers.get(name) != value
    ]
    if not letter.headers.get("dlq.error"):
        faults.append("the dead letter has no header dlq.error")
    if (letter.key, letter.value) != (bad.order_id, bad.value.encode()):
        faults.append("the dead letter has another key or value than the record")
    return faults


def _rebalance(place: Workplace) -> list[Outcome]:
    """Let two records wait at one instance; another instance takes one of them over and dead-letters it."""
    line = PrivateGroup(place, "move", 2, retry_seconds=20)
    parcels = [Parcel(), Parcel()]
    refuse(place, *parcels)
    first = line.start()
    second = line.start(hold=["subscribe"], RETRY_SECONDS="0.2")
    for number, parcel in enumerate(parcels):
        line.send(parcel, partition=number)
    second.wait_for("held")
    poll_until(lambda: len(first.passed("rollback")) > 1 or not first.is_alive, 30)
    second.release("subscribe")
    poll_until(lambda: bool(line.dead_letters()) or not second.is_alive, 40)
    moved = next((one for one in parcels if one.event_id in _ids(line)), None)
    if moved is None:
        first.close()
        second.close()
        return [REBALANCE.broken("the second instance dead-lettered no record of the partition it got", LOST)]
    stays = next(one for one in parcels if one != moved)
    accept_all(place, *parcels)
    line.await_refunds([stays], [first, second], 60)
    after = [Parcel(), Parcel()]
    for number, parcel in enumerate(after):
        line.send(parcel, partition=number)
    line.await_refunds(after, [first, second])
    refunds, letters = line.refunds([moved])[moved], _ids(line).count(moved.event_id)
    dead = [program for program in (first, second) if not program.is_alive]
    seen = f"the record whose partition moved has {letters} dead letter(s) and {refunds} refund(s)"
    outcome = REBALANCE.kept(f"{seen}; the other one was handled by its owner, and both instances run.")
    if (letters, refunds) != (1, 0):
        outcome = REBALANCE.broken(
            f"{seen}: the first instance tried it again although it had lost the partition",
            "Support refunds the customer by hand, because of the dead letter, and so does the service.",
        )
    elif dead:
        outcome = REBALANCE.broken(f"{seen}; {_died(dead[0])}", "Each deployment stops refunds until a restart.")
    elif not all(line.refunds([stays, *after]).values()):
        outcome = REBALANCE.broken(f"{seen}; after that a partition is handled by no instance", LOST)
    first.close()
    second.close()
    return [outcome]


def _ids(line: PrivateGroup) -> list[str | None]:
    return [letter.headers.get("ce_id") for letter in line.dead_letters()]


def _outage(place: Workplace) -> list[Outcome]:
    """Refuse connections to the database until the program has noticed several times, for at most 10 s."""
    line = PrivateGroup(place, "outage")
    before, during = Parcel(), [Parcel(), Parcel(), Parcel()]
    program = line.start()
    line.send(before, partition=0)
    line.await_refunds([before], [program])
    with place.database_unavailable():
        for number, parcel in enumerate(during):
            line.send(parcel, partition=number)
        poll_until(lambda: len(program.passed("connect-failed")) > 9 or not program.is_alive, 10)
    line.await_refunds(during, [program], 40)
    found, letters, noticed = line.refunds(during), len(line.dead_letters()), len(program.passed("connect-failed"))
    seen = f"the database was away for {noticed} attempts to connect: {_counted(found)}, {letters} dead letters"
    died = "" if program.is_alive else _died(program)
    program.close()
    if set(found.values()) == {1} and not letters and not died:
        return [OUTAGE.kept(f"{seen}.")]
    meaning = "Support gets a dead letter for each customer of that night." if letters else LOST
    return [OUTAGE.broken(f"{seen}{'; ' + died if died else ''}", meaning)]


def _shutdown(place: Workplace) -> list[Outcome]:
    """Send SIGTERM while a transaction is open."""
    line = PrivateGroup(place, "stop", 1)
    program = line.start(hold=["before-commit:2"])
    parcels = [Parcel(), Parcel(), Parcel()]
    line.send(*parcels, partition=0)
    program.wait_for("held")
    program.terminate()
    program.release("before-commit:2")
    poll_until(lambda: not program.is_alive, 10)
    status, committed = program.status, line.committed().get(0, 0)
    refunds, closed = sum(line.refunds(parcels).values()), bool(program.passed("close"))
    program.close()
    seen = f"SIGTERM during a transaction: status {status}, {refunds} refunds, offset {committed} committed"
    if status == 0 and closed and 2 <= refunds == committed:
        return [SHUTDOWN.kept(f"{seen}, the group left.")]
    if status is None:
        seen += "; still running after 10 s"
    elif not closed:
        seen += "; the group was not left with close()"
    return [
        SHUTDOWN.broken(
            seen, "At each deployment the partitions stand still until the session ends, and refunds come late."
        )
    ]
