"""Build the class-data archives of the broker and Connect.

Java records the classes that it loads in a short training run. Later startups read them from the archive instead of
loading and linking them again. Measured gain: the broker and Connect are ready in 5 s instead of 8.4 s. Cost: about
half a minute, once per cache, and 140 MB. The archives are optional: the lab reports a failed training run and retries
it after a day.

See the JDK's JEP 483 and JEP 514 (Java 25), and JEP 350 for older Java.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psycopg

from labservices.contract import OUTBOX
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.kafka import Kafka, archive
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.java.java import find_java
from labstack.backends.processes.process import Command, end, spawn
from labstack.clients import broker, databases
from labstack.clients.relay import Relay, heartbeat_topic
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, TopicPlan
from labstack.errors import LabError
from labstack.ports import free as ports
from labstack.process_id import ProcessId
from labstack.progress import Progress
from labstack.state import remove_tree
from labstack.waiting import poll_until

TRAINING_SERVICE = ServiceEntry("training", 0, 0, ())
RETRY_AFTER = 24 * 3600

SCHEMA = f"""
    CREATE TABLE outbox ({", ".join(f"{column} {type}" for column, type in OUTBOX.items())}, PRIMARY KEY (id));
    ALTER TABLE outbox ALTER created_at SET DEFAULT now();
    CREATE PUBLICATION outbox FOR TABLE outbox WITH (publish = 'insert');
"""
ROW = """
    INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload, dataschema, source, traceparent)
    VALUES (gen_random_uuid(), 'training', gen_random_uuid(), 'Trained', '{"a": 1}', 'urn:training', '/', '')
"""


def make_archives(paths: LabPaths, lab_id: str, progress: Progress) -> bool:
    """Build the archives of the broker and Connect unless they exist. Return whether they exist afterwards."""
    targets = {name: archive(paths, name) for name in ("kafka", "connect")}
    if all(target.exists() for target in targets.values()):
        return True
    failed_before = targets["kafka"].with_name("failed")
    if failed_before.exists() and time.time() - failed_before.stat().st_mtime < RETRY_AFTER:
        return False
    with progress.stage("class-data archives for Java (once, half a minute)") as stage:
        targets["kafka"].parent.mkdir(parents=True, exist_ok=True)
        for leftover in paths.cache.glob("training-*"):
            remove_tree(leftover)
        try:
            with tempfile.TemporaryDirectory(prefix="training-", dir=paths.cache) as folder:
                _train(LabPaths(Path(folder), paths.cache), lab_id, targets)
        except (LabError, OSError, psycopg.Error) as error:
            failed_before.write_text(str(error), encoding="utf-8")
            progress.note(stage, "skipped: " + str(error).splitlines()[0])
            return False
    return True


def _train(paths: LabPaths, lab_id: str, targets: dict[str, Path]) -> None:
    """Run the broker, Connect and one connector until an event has passed, then stop them.

    Java writes the archives when it exits.
    """
    java = find_java()
    partials = {name: target.with_suffix(".partial") for name, target in targets.items()}
    chosen: set[int] = set()
    for _ in range(4):
        chosen.add(ports.choose(0, {0, *chosen}))
    numbers = dict(zip(("training-db", "kafka", "kafka-controller", "connect"), chosen, strict=True))
    context = Context(paths, numbers)
    database = Postgres(context, TRAINING_SERVICE)
    kafka = Kafka(context, tuple(java.record_archive(partials["kafka"])), archived=False)
    connect = Connect(context, tuple(java.record_archive(partials["connect"])), archived=False)
    connect.databases = [database]
    components: tuple[Component, ...] = (database, kafka, connect)
    running: list[tuple[Command, ProcessId]] = []
    try:
        for component in components:
            command = component.prepare()
            running.append((command, spawn(command, component.log, f"{lab_id}/training-{component.name}")))
        _relay_event(database, kafka, connect)
    except BaseException:
        for command, identity in running:
            end(identity, command.stop_signal, grace=0)
        raise
    # Connect first: its shutdown needs the broker.
    for command, identity in reversed(running):
        end(identity, command.stop_signal, grace=60)
    for name, target in targets.items():
        if not partials[name].exists():
            raise LabError(f"Java wrote no archive for {name}.")
        partials[name].rename(target)


def _relay_event(database: Postgres, kafka: Kafka, connect: Connect) -> None:
    for component in (database, kafka):
        if not poll_until(component.is_ready, 60):
            raise LabError(f"{component.name} did not become ready in the training run.")
    with databases.connect(database.url, autocommit=True, timeout=10) as connection:
        connection.execute(SCHEMA)
    topic = "training.events"
    broker.create_topics(kafka.address, TopicPlan(1, (topic, heartbeat_topic(TRAINING_SERVICE.name))))
    if not poll_until(connect.is_ready, 90, interval=0.1):
        raise LabError("connect did not become ready in the training run.")
    Relay(connect.url).register(database.server)
    with databases.connect(database.url, autocommit=True, timeout=10) as connection:
        for _ in range(20):
            connection.execute(ROW)
    with broker.reading(kafka.address, {(topic, 0): 0}) as consumer:
        if consumer.poll(60) is None:
            raise LabError("No event arrived in Kafka during the training run.")
