"""Choreography and orchestration of the same saga, measured over Kafka: messages, latency, and the cost of a step."""

from __future__ import annotations

import difflib
import importlib.util
import json
import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from sqlalchemy import text

from labkit.build.instances.instance import Instance
from labkit.build.orchestrator.participants import BY_COMMAND
from labkit.build.orchestrator.simulation import require
from labkit.build.workplace import Workplace
from labkit.waiting import wait_until
from labstack import Lab
from labstack.clients import databases

FILES = Path(__file__).parents[1] / "files" / "orchestrator"
RETURNS = 10
TIMEOUT = 60
INTERVAL = 0.01
"""Seconds between two queries of the relay, which polls: both forms have the same small delay for each message."""

OUTCOMES = {"completed": None, "undone": "courier"}
"""The step that is refused, for each outcome."""


class Form(ABC):
    """A saga whose services run as threads, each with a consumer of the topic; a relay publishes the outbox."""

    name: str

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.topic = place.topic(self.name, 1)
        self.engine = databases.engine(place.environment["DATABASE_URL"])
        self._producer = Producer({"bootstrap.servers": place.kafka, "linger.ms": 0})
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self) -> None:
        """Create the tables, and start the services and the relay."""
        self.prepare()
        for service in self.services:
            self._spawn(partial(self._consume, service))
        self._spawn(self._relay)

    @property
    @abstractmethod
    def services(self) -> list[str]:
        """The services that consume the topic."""

    @abstractmethod
    def prepare(self) -> None:
        """Create the tables."""

    @abstractmethod
    def request(self, return_id: str, refused: str | None) -> None:
        """Request a return, in which one step may be refused."""

    @abstractmethod
    def handle(self, service: str, event_id: str, event_type: str, payload: dict[str, Any]) -> None:
        """Handle a record in one service."""

    @abstractmethod
    def has_ended(self, return_id: str, outcome: str) -> bool:
        """Report whether a return has ended, with all undoing."""

    def measure(self, outcome: str) -> tuple[float, float]:
        """Run returns one after another; return the records for each, and the median of the seconds."""
        before, seconds = self._records(), []
        for number in range(RETURNS):
            return_id = f"{self.name}-{outcome}-{number}"
            began = time.monotonic()
            self.request(return_id, OUTCOMES[outcome])
            ended = partial(self._has_ended, return_id, outcome)
            wait_until(ended, TIMEOUT, what=f"{return_id} to end", interval=0.02)
            seconds.append(time.monotonic() - began)
        return (self._records() - before) / RETURNS, statistics.median(seconds)

    def close(self) -> None:
        """Stop the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
        self.engine.dispose()

    def _has_ended(self, return_id: str, outcome: str) -> bool:
        if self._errors:
            raise self._errors[0]
        return self.has_ended(return_id, outcome)

    def _records(self) -> int:
        return len(self.place.records(self.topic))

    def _spawn(self, run: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                self._errors.append(error)

        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._threads[-1].start()

    def _consume(self, service: str) -> None:
        consumer = Consumer({"bootstrap.servers": self.place.kafka, "group.id": f"{self.topic}.{service}"})
        consumer.assign([TopicPartition(self.topic, 0, OFFSET_BEGINNING)])
        while not self._stop.is_set():
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                event: dict[str, Any] = json.loads(message.value() or b"null")
                self.handle(service, event["id"], event["type"], event["payload"])
        consumer.close()

    def _relay(self) -> None:
        while not self._stop.wait(INTERVAL):
            with self.engine.begin() as db:
                rows = db.execute(text("DELETE FROM outbox RETURNING id, aggregateid, type, payload")).all()
                for row in rows:
                    event = {"id": str(row.id), "type": row.type, "payload": row.payload}
                    self._producer.produce(self.topic, json.dumps(event), row.aggregateid)
                if rows:
                    self._producer.flush()


class Choreography(Form):
    """Each service reacts to the events of the others."""

    name = "choreography"
    module: ModuleType

    @property
    def services(self) -> list[str]:
        """Return the services that react to events."""
        return list(self.module.REACTIONS)

    def prepare(self) -> None:
        """Create inbox, outbox and effects."""
        self.module = load(FILES / "choreography.py")
        with self.engine.begin() as db:
            self.module.create_tables(db)

    def request(self, return_id: str, refused: str | None) -> None:
        """Publish ReturnRequested."""
        with self.engine.begin() as db:
            self.module.publish(db, "ReturnRequested", {"return_id": return_id, "refused": refused})

    def handle(self, service: str, event_id: str, event_type: str, payload: dict[str, Any]) -> None:
        """Let a service react to an event."""
        with self.engine.begin() as db:
            self.module.handle(db, service, event_id, event_type, payload)

    def has_ended(self, return_id: str, outcome: str) -> bool:
        """Report whether the return is completed, or cancelled with both steps undone."""
        with self.engine.connect() as db:
            rows = db.execute(text("SELECT effect FROM effects WHERE return_id = :id"), {"id": return_id}).scalars()
            wanted = {"complete"} if outcome == "completed" else {"cancel", "undo restock", "undo refund"}
            return wanted <= set(rows)


class Orchestration(Form):
    """The learner's orchestrator sends commands, and each participant replies."""

    name = "orchestration"

    def prepare(self) -> None:
        """Start the orchestrator, and let it create its tables."""
        self._orchestrator = Instance(self.place.file, self.place.environment)
        require(self._orchestrator)
        self._viewer = Instance(self.place.file, self.place.environment)
        self._refused: dict[str, str | None] = {}

    @property
    def services(self) -> list[str]:
        """Return the orchestrator and the participants."""
        return ["returns", *dict.fromkeys(step.participant for step in BY_COMMAND.values())]

    def request(self, return_id: str, refused: str | None) -> None:
        """Publish ReturnRequested."""
        self._refused[return_id] = refused
        more = {"order_id": "order", "sku": "earl-grey", "quantity": 3, "amount_cents": 2670}
        self._publish("ReturnRequested", {"return_id": return_id, **more})

    def handle(self, service: str, event_id: str, event_type: str, payload: dict[str, Any]) -> None:
        """Call the orchestrator for a request or a reply, or let a participant reply to its command."""
        if service == "returns" and event_type in ("ReturnRequested", "Reply"):
            function = "start_return" if event_type == "ReturnRequested" else "on_reply"
            answer = self._orchestrator.call(function, payload, time.time())
            if answer.failure:
                raise RuntimeError(f"{function}() {answer.failure}")
        elif event_type in BY_COMMAND and BY_COMMAND[event_type].participant == service:
            step = BY_COMMAND[event_type]
            refused = event_type == step.command and self._refused[payload["return_id"]] == step.name
            outcome = {"outcome": "failed", "reason": "refused"} if refused else {"outcome": "done", "reason": None}
            ids = {name: payload[name] for name in ("command_id", "return_id")}
            self._publish("Reply", {**ids, **outcome})

    def has_ended(self, return_id: str, outcome: str) -> bool:
        """Ask the orchestrator's view."""
        view = self._viewer.call("view", return_id).value
        return bool(view) and view["status"] == {"completed": "COMPLETED", "undone": "CANCELLED"}[outcome]

    def close(self) -> None:
        """Stop the threads and the orchestrator."""
        super().close()
        self._orchestrator.close()
        self._viewer.close()

    def _publish(self, event_type: str, payload: dict[str, Any]) -> None:
        values = {"key": payload["return_id"], "type": event_type, "payload": json.dumps(payload)}
        columns = "(id, aggregatetype, aggregateid, type, payload)"
        with self.engine.begin() as db:
            query = f"INSERT INTO outbox {columns} VALUES (gen_random_uuid(), 'returns', :key, :type, :payload)"
            db.execute(text(query), values)


def measure(lab: Lab, file: Path) -> pd.DataFrame:
    """Run the saga in both forms, and return messages for each return, latencies, and the cost of a further step.

    Parameters
    ----------
    lab : Lab
        The running lab.
    file : Path
        The orchestrator.
    """
    columns: dict[str, list[Any]] = {}
    for form in (Choreography, Orchestration):
        with Workplace(lab, file) as place:
            saga = form(place)
            saga.start()
            try:
                measured = [saga.measure(outcome) for outcome in OUTCOMES]
            finally:
                saga.close()
        messages = [int(count) if count == int(count) else count for count, _ in measured]
        milliseconds = [round(1000 * seconds) for _, seconds in measured]
        columns[form.name] = [*messages, *milliseconds, *cost_of_a_step()[form.name]]
    return pd.DataFrame(columns, index=ROWS, dtype=object)


ROWS = (
    "messages for a return that is completed",
    "messages for a return that is undone",
    "milliseconds until a return is completed",
    "milliseconds until a return is undone",
    "lines that a further step changes",
    "services that a further step changes",
)

INSPECTION = '    ("inspection", "inspection", "InspectGoods", "ForgetInspection", ("sku", "quantity")),\n'
"""The line that adds a step to the reference's table of steps."""


def cost_of_a_step() -> dict[str, tuple[int, int]]:
    """Return the changed lines and services if an inspection follows the restocking, without the inspection itself."""
    before, after = (load(FILES / f"choreography{more}.py").REACTIONS for more in ("", "_with_inspection"))
    lines = {
        service: [line for line in difflib.ndiff(_entries(before[service]), _entries(after[service])) if line[0] == "+"]
        for service in before
    }
    changed = [service for service, found in lines.items() if found]
    return {
        "choreography": (sum(len(found) for found in lines.values()), len(changed)),
        "orchestration": (len(INSPECTION.splitlines()), 1),
    }


def _entries(reactions: dict[str, Any]) -> list[str]:
    return [f"{event}: {reaction}" for event, reaction in reactions.items()]


def load(file: Path) -> ModuleType:
    """Import a file that does not belong to a package's interface."""
    spec = importlib.util.spec_from_file_location(f"build_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
