"""Step 4 as the notebook offers it."""

from __future__ import annotations

from labkit.build.connector.neighbours import alone
from labkit.build.connector.requirements import REQUIREMENTS
from labkit.build.connector.stage import HEADERS, OutboxRow, RelayStage
from labkit.build.connector.trials import OLD, call, trials
from labkit.build.step import Task
from labkit.build.workplace import Workplace


def try_out(place: Workplace) -> None:
    """Run prepare() and deploy() beside an outbox with old and new rows, and print what arrives in the topic.

    Parameters
    ----------
    place : Workplace
        The learner's workplace.
    """
    stage = RelayStage(place)
    rows = {"sent before": stage.write(*(OutboxRow.new() for _ in range(OLD)))}
    call(place, "prepare")
    rows["after prepare()"] = stage.write(OutboxRow.new())
    call(place, "deploy", stage.topic, HEADERS)
    stage.wait_for_reader()
    (last,) = rows["after deploy()"] = stage.write(OutboxRow.new())
    stage.wait_for([last], 20)
    print(f"prepare() and deploy() returned; {stage.status()}")
    for topic in stage.astray(last) or [stage.topic]:
        print(f"topic {topic}")
        for title, events in rows.items():
            arrived = len(events) - len(stage.missing(events, topic))
            print(f"  {title:<16} {len(events)} committed, {arrived} published")
        for record in filter(last.is_in, stage.records(topic)):
            print(f"  key: {_without_ids(record.key or '', last)}")
            print(f"  headers: {', '.join(name for name in record.headers if name[:2] != '__') or 'none'}")
            print(f"  value: {_without_ids((record.value or b'').decode(errors='replace'), last)[:60]}…")


def _without_ids(text: str, event: OutboxRow) -> str:
    """Return a text with names instead of an event's ids."""
    return text.replace(event.return_id, "RETURN").replace(event.columns["id"] or "", "EVENT")


HINTS = (
    "Notebook 11 takes the connector of the lab apart. "
    '`httpx.get(f"{lab.endpoints.connect}/connectors/order-outbox/config").json()` shows a configuration that works, '
    "and `SELECT * FROM pg_publication_tables` what its publication contains.",
    "`CREATE PUBLICATION … FOR TABLE … WITH (publish = …)` and pg_create_logical_replication_slot() in prepare(); "
    "`PUT /connectors/NAME/config` in deploy(), again until Connect accepts it (KIP-26: 409 while it rebalances). "
    "Debezium's documentation of the outbox event router has route.topic.replacement and "
    "table.fields.additional.placement; its PostgreSQL connector has snapshot.mode and heartbeat.action.query.",
    """        "slot.name": os.environ["SLOT"],
        "publication.name": "outbox",
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        "heartbeat.interval.ms": "2000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', '')",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        ...""",
)

TASK = Task(
    name="connector",
    notebook="build-4",
    title="Step 4: a connector publishes the outbox, and can be changed.",
    requirements=REQUIREMENTS,
    hints=HINTS,
    trials=trials,
    try_out=try_out,
    alone=alone,
)
