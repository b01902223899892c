"""The trials of step 4: what the connector publishes, and what it does when Kafka, PostgreSQL and Connect fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.build.connector import requirements as must
from labkit.build.connector.neighbours import check_unused
from labkit.build.connector.stage import HEADERS, LATER_HEADERS, OutboxRow, RelayStage
from labkit.build.judging import Outcome
from labkit.build.workplace import Workplace
from labstack.clients.broker import Record
from labstack.waiting import poll_until

OLD = 5
"""Rows that the old publisher has sent."""
LIMIT = 4000
"""The largest record that Kafka accepts, in bytes, in the trial in which it refuses an event."""
BUSY = "INSERT INTO page_views (page) SELECT repeat(md5(i::text), 30) FROM generate_series(1, 20000) AS i"
CONFIRMED_WITHIN = 30
"""Seconds, as the requirement says."""


def trials(place: Workplace) -> Iterator[Outcome]:
    """Deploy the connector, disturb it, and change it; yield the outcome of each requirement."""
    stage = RelayStage(place)
    try:
        old = stage.write(*(OutboxRow.new() for _ in range(OLD)))
        call(place, "prepare")
        between = stage.write(OutboxRow.new(), OutboxRow.new())
        call(place, "deploy", stage.topic, HEADERS)
        stage.wait_for_reader()
        after = stage.write(OutboxRow.new(), OutboxRow.new(is_traced=False))
        if stage.wait_for(after):
            yield _nothing_arrives(stage, after)
            return
        yield _contract(stage, after)
        yield _handover(stage, old)
        yield _gapless(stage, between)
        yield _private(stage)
        yield _complete(stage)
        yield _quiet(stage)
        yield _outage(stage)
        yield _change(stage)
    finally:
        stage.close()


def call(place: Workplace, function: str, *arguments: Any) -> None:
    """Call a function of the learner's file; an exception in it ends the judging."""
    program = place.start_call(function, arguments)
    if program.wait(120) or program.results[0].error:
        raise program.failure(f"failed in {function}()")


def _nothing_arrives(stage: RelayStage, events: tuple[OutboxRow, ...]) -> Outcome:
    elsewhere = stage.astray(events[0])
    where = f"it is in {', '.join(elsewhere)}" if elsewhere else "it is in no topic"
    return must.CONTRACT.broken(f"an event is not in {stage.topic}; {where}; {stage.status()}.", must.NOT_SENT)


def _contract(stage: RelayStage, events: tuple[OutboxRow, ...]) -> Outcome:
    if not stage.config():
        seen = f"Connect has no connector {stage.connector}, which is the name in CONNECTOR."
        return must.CONTRACT.broken(seen, must.HALF_CHANGED)
    faults = differences(events, stage.records(stage.topic), HEADERS)
    if faults:
        return must.CONTRACT.broken("\n".join(faults), next(iter(faults.values())))
    return must.CONTRACT.kept(f"{len(events)} events are in the topic with their key, headers and payload.")


def differences(events: tuple[OutboxRow, ...], records: list[Record], headers: Mapping[str, str]) -> dict[str, str]:
    """Return in what the records of events differ from their rows, with the meaning of each difference."""
    found: dict[str, str] = {}
    for event in events:
        record = next((one for one in records if event.is_in(one)), None)
        if record is None:
            found["an event has no record"] = must.NOT_SENT
            continue
        if record.key != event.return_id:
            found[f"the key is {record.key!r}, and aggregateid is {event.return_id!r}"] = must.WRONG_KEY
        for header, column in headers.items():
            if record.headers.get(header) != event.columns[column]:
                seen = repr(record.headers[header]) if header in record.headers else "missing"
                found[f"the header {header} is {seen}, and {column} is {event.columns[column]!r}"] = must.WRONG_HEADER
        if fault := _value_fault(record.value or b"", event.payload):
            found[fault] = must.WRONG_VALUE
    return found


def _value_fault(value: bytes, payload: dict[str, Any]) -> str:
    try:
        decoded = json.loads(value)
    except ValueError:
        return f"the value is no JSON: {value[:80]!r}"
    start = value[:80].decode(errors="replace")
    if isinstance(decoded, str):
        return f"the value is a JSON text that contains JSON: {start}…"
    if isinstance(decoded, dict) and {"schema", "payload"} <= set(decoded):
        twice = isinstance(decoded["payload"], str)
        return f"the value is wrapped in schema and payload{', and encoded twice' if twice else ''}: {start}…"
    return "" if decoded == payload else f"the value is {decoded}, and the payload is {payload}"


def _handover(stage: RelayStage, old: tuple[OutboxRow, ...]) -> Outcome:
    again = len(old) - len(stage.missing(old))
    if again:
        return must.HANDOVER.broken(
            f"{again} of {len(old)} rows that were sent before are published again.", must.SENT_AGAIN
        )
    return must.HANDOVER.kept(f"none of the {len(old)} rows that were sent before is in the topic.")


def _gapless(stage: RelayStage, between: tuple[OutboxRow, ...]) -> Outcome:
    missing = stage.wait_for(between, 10)
    if missing:
        seen = f"{len(missing)} of {len(between)} events from the time between prepare() and deploy() are in no topic"
        return must.GAPLESS.broken(f"{seen}, and later ones are.", must.NOT_SENT)
    return must.GAPLESS.kept(f"{len(between)} events from the time between prepare() and deploy() are in the topic.")


def _private(stage: RelayStage) -> Outcome:
    name = stage.config().get("publication.name", "dbz_publication")
    rows = stage.place.rows("SELECT tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY tablename", name)
    tables = [row["tablename"] for row in rows]
    (kinds,) = stage.place.rows("SELECT pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = %s", name)
    others = [table for table in tables if table in ("customers", "page_views", "returns")]
    changes = [kind.removeprefix("pub") for kind, is_published in kinds.items() if is_published]
    if others:
        return must.PRIVATE.broken(f"the publication {name} contains {', '.join(tables)}.", must.EXPOSED)
    if changes:
        seen = f"the publication {name} publishes inserts, and also: {', '.join(changes)}."
        return must.PRIVATE.broken(seen, must.OTHER_CHANGES)
    return must.PRIVATE.kept(f"the publication {name} contains inserts into {', '.join(tables)}.")


def _complete(stage: RelayStage) -> Outcome:
    """Make Kafka refuse an event, write others after it, and remove the cause."""
    later: list[OutboxRow] = []

    def is_decided() -> bool:
        if len(later) < 3:
            later.extend(stage.write(OutboxRow.new()))
        return stage.status().has_failed or (len(later) == 3 and not stage.missing(later))

    with stage.refusing(LIMIT):
        for _ in range(5):  # the broker applies the limit a moment later
            large = stage.write(OutboxRow.new(photo="x" * 5 * LIMIT))
            poll_until(is_decided, 60, interval=1)
            if stage.missing(large):
                break
        stopped = stage.status()
    stage.restart_failed()
    poll_until(lambda: not stage.missing([*large, *later]), 60 if stopped.has_failed else 5, interval=0.3)
    missing = stage.missing([*large, *later])
    refused = f"Kafka refused an event, and {stopped}"
    if missing:
        seen = f"{refused}. Kafka accepted it again, but {len(missing)} of {1 + len(later)} events never arrived."
        return must.COMPLETE.broken(seen, must.NOT_SENT)
    return must.COMPLETE.kept(f"{refused}. After a restart, this event and {len(later)} later ones are in the topic.")


def _quiet(stage: RelayStage) -> Outcome:
    """Fill a table that is not published, and look at the slot."""
    stage.place.execute(BUSY)
    began, row = time.monotonic(), stage.slot_row()
    if not row:
        return must.QUIET.broken(f"there is no slot {stage.slot}.", must.NOT_SENT)
    poll_until(lambda: stage.slot_row(row["position"]).get("confirmed"), CONFIRMED_WITHIN, interval=0.2)
    seconds, now = time.monotonic() - began, stage.slot_row(row["position"])
    if not now.get("confirmed"):
        seen = f"{seconds:.0f} s later the slot has not confirmed it, and retains {now.get('retained', 0) / 1e6:.0f} MB"
        return must.QUIET.broken(f"page_views grew by 20 MB; {seen}.", must.LOG_FILLS_DISK)
    return must.QUIET.kept(f"page_views grew by 20 MB; the slot confirmed it after {seconds:.0f} s.")


def _outage(stage: RelayStage) -> Outcome:
    with stage.place.database_unavailable():
        poll_until(lambda: stage.status().has_failed, 5, interval=0.2)
    began = time.monotonic()
    missing = stage.wait_for(stage.write(OutboxRow.new()))
    if missing:
        seen = f"the database was away for 5 s; {time.monotonic() - began:.0f} s later an event is not published"
        return must.OUTAGE.broken(f"{seen}, and {stage.status()}.", must.STAYS_DOWN)
    return must.OUTAGE.kept(
        f"the database was away for 5 s; {time.monotonic() - began:.0f} s later the next event arrived."
    )


def _change(stage: RelayStage) -> Outcome:
    """Deploy another topic and a header while Connect restarts, with an event that waits."""
    lab = stage.place.lab
    check_unused(lab)  # something else may use Connect since the judge began
    lab.faults.kill("connect")
    try:
        waiting = stage.write(OutboxRow.new())
        program = stage.place.start_call("deploy", [stage.later_topic, LATER_HEADERS])
        program.wait_for("call")
    finally:
        lab.start("connect")
    if program.wait(120) or program.results[0].error:
        reported = program.results[0].error if program.results else ""
        error = reported.partition("\n")[0] or program.output(1)  # httpx's errors continue with a link
        return must.CHANGE.broken(f"Connect restarted, and deploy() failed: {error[:300]}", must.HALF_CHANGED)
    probes: list[OutboxRow] = []

    def is_changed() -> bool:
        probes.extend(stage.write(OutboxRow.new()))
        return len(stage.missing(probes, stage.later_topic)) < len(probes)

    if not poll_until(is_changed, 60, interval=1):
        seen = f"Connect restarted, and deploy() returned, but {len(probes)} later events are not in the new topic"
        return must.CHANGE.broken(f"{seen}; {stage.status()}.", must.HALF_CHANGED)
    last = stage.write(OutboxRow.new())
    stage.wait_for(last)
    faults = differences(last, stage.records(stage.later_topic), LATER_HEADERS)
    if len(stage.missing(last, stage.topic)) < len(last):
        faults["an event from after the change is in the old topic, too"] = must.ACTED_ON_TWICE
    if lost := stage.wait_for([*waiting, *probes], 10):
        faults[f"{len(lost)} events from the time of the change are in no topic"] = must.NOT_SENT
    if faults:
        return must.CHANGE.broken("\n".join(faults), next(iter(faults.values())))
    number = len(waiting) + len(probes) + len(last)
    return must.CHANGE.kept(
        f"Connect restarted; each of {number} events arrived, the later ones in the new topic only."
    )
