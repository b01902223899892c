"""Sagas of the learner's orchestrator: the judge is the relay, the broker, the clock and the participants."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, text

from labkit.build.instances.instance import Call, Instance, InstanceAnswer, Point, TwoInstances
from labkit.build.orchestrator.participants import BY_COMMAND, Participants, Script
from labkit.build.program import ProgramFailed

START = 1_800_000_000.0
ROUNDS = 16
TIMEOUT = 30
ENDED = ("COMPLETED", "CANCELLED")


@dataclass
class ReturnStory:
    """What happened to one return.

    Attributes
    ----------
    script : Script
        What the participants did.
    commands : list of str
        The commands, in the order in which they were published.
    standing : dict
        How often each step is done and not undone at the end.
    view : object
        What view() returned at the end.
    """

    script: Script
    commands: list[str]
    standing: dict[str, int]
    view: Any

    @property
    def is_consistent(self) -> bool:
        """Whether the return has ended, and all or none of its steps stand, each once."""
        status = self.view.get("status") if isinstance(self.view, dict) else None
        wanted = dict.fromkeys((step.name for step in BY_COMMAND.values()), 1) if status == "COMPLETED" else {}
        return status in ENDED and self.standing == wanted

    def __str__(self) -> str:
        standing = ", ".join(f"{count} × {name}" for name, count in self.standing.items()) or "nothing"
        return f"commands: {' → '.join(self.commands) or 'none'}; done and not undone: {standing}; view: {self.view}"


@dataclass
class Simulation:
    """Runs sagas with the learner's orchestrator.

    Parameters
    ----------
    services : TwoInstances
        Two instances of the orchestrator with one database.
    """

    services: TwoInstances
    now: float = START
    participants: Participants = field(default_factory=Participants)
    problems: list[str] = field(default_factory=list)
    calls: list[tuple[str, InstanceAnswer]] = field(default_factory=list)
    views: list[Any] = field(default_factory=list)
    kills: int = 0
    _replies: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    _sent: dict[str, tuple[str, float]] = field(default_factory=dict)
    _answered: set[str] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def engine(self) -> Engine:
        """The database."""
        return self.services.engine

    def request(self, script: Script) -> dict[str, Any]:
        """Return a new request, whose saga the participants treat as the script says."""
        number = next(self._numbers)
        return_id = f"return-{id(self)}-{number}"
        self.participants.add(return_id, script)
        return {
            "return_id": return_id,
            "order_id": f"order-{number}",
            "sku": "earl-grey",
            "quantity": 3,
            "amount_cents": 2670,
        }

    def story(self, return_id: str) -> ReturnStory:
        """Return what happened to a return."""
        view = self.services.first.call("view", return_id)
        played = self.participants
        seen = view.failure or view.value
        return ReturnStory(played.scripts[return_id], played.commands[return_id], played.standing(return_id), seen)

    def run(
        self,
        script: Script,
        *,
        doubled: bool = False,
        restart: bool = False,
        crash: tuple[int, Point] | None = None,
        late: bool = False,
        views: bool = False,
    ) -> ReturnStory:
        """Run the saga of one return to its end.

        Parameters
        ----------
        script : Script
            What the participants do.
        doubled : bool
            Whether each reply arrives again, at once and after each later reply.
        restart : bool
            Whether the process is killed after each call.
        crash : (int, str), optional
            The number of the call, from 0, in which the process is killed, and the point.
        late : bool
            Whether the call that crashed is repeated only after a time-out.
        views : bool
            Whether to call view() after each call.
        """
        request = self.request(script)
        return_id = request["return_id"]
        self.calls, self.views = [], []

        def deliver(function: str, *arguments: Any) -> None:
            point = crash[1] if crash and crash[0] == len(self.calls) else ""
            answer = self.services.first.call(function, *arguments, crash=point)
            if point and answer.died:
                if late:
                    self.relay()
                    self.now += 31
                    self.call("on_time", self.now)
                    self.relay()
                answer = self.services.first.call(function, *arguments)
            self.calls.append((function, answer))
            self._note(function, answer)
            if restart and function != "on_time":
                self.services.first.kill()
            self.relay()
            if views:
                self.views.append(self.services.first.call("view", return_id).value)

        deliver("start_return", request, self.now)
        old: list[dict[str, Any]] = []
        for _ in range(ROUNDS):
            for reply in self.due():
                old.append(reply)
                for again in (reply, *old) if doubled else (reply,):
                    deliver("on_reply", again, self.now)
            if self._has_ended(return_id):
                break
            if not any(at <= self.now for at, _ in self._replies):
                self._pass_time(lambda: deliver("on_time", self.now), return_id)
        return self.story(return_id)

    def _pass_time(self, tick: Callable[[], None], return_id: str) -> None:
        before = len(self.participants.commands[return_id])
        self.now += 29
        tick()
        if len(self.participants.commands[return_id]) > before:
            sent = self.participants.commands[return_id][-1]
            self.problems.append(f"on_time() sent {sent} 29 s after the command before it")
        self.now += 2
        tick()

    def _has_ended(self, return_id: str) -> bool:
        view = self.services.first.call("view", return_id).value
        return isinstance(view, dict) and view.get("status") in ENDED and not self._replies

    def due(self) -> list[dict[str, Any]]:
        """Take the replies that are due, in the order in which they were sent."""
        due = [reply for at, reply in self._replies if at <= self.now]
        self._replies = [(at, reply) for at, reply in self._replies if at > self.now]
        self._answered |= {reply["command_id"] for reply in due}
        return due

    def call(self, function: str, *arguments: Any, crash: Point = "") -> InstanceAnswer:
        """Call the orchestrator; if it crashes, repeat the call, as the broker delivers a record again."""
        answer = self.services.first.call(function, *arguments, crash=crash)
        if crash and answer.died:
            self.kills += 1
            answer = self.services.first.call(function, *arguments)
        self._note(function, answer)
        return answer

    def at_once(self, one: Call, other: Call, point: Point) -> tuple[InstanceAnswer, InstanceAnswer]:
        """Make two calls in two instances at the same time."""
        answers = self.services.at_once(one, other, point)
        for (function, *_), answer in zip((one, other), answers, strict=True):
            self._note(str(function), answer)
        return answers

    def relay(self) -> list[str]:
        """Publish the commands of the outbox; return the types of those that were published."""
        columns = "aggregatetype, aggregateid, type, payload"
        with self.engine.begin() as db:
            rows = db.execute(text(f"DELETE FROM outbox RETURNING {columns}")).mappings().all()
        for row in rows:
            payload = row["payload"]
            if fault := self._fault(row):
                self.problems.append(fault)
                continue
            before, at = self._sent.get(payload["return_id"], ("", 0.0))
            if before and before not in self._answered and self.now - at < TIMEOUT:
                self.problems.append(f"{row['type']} was sent before the command before it was answered")
            self._sent[payload["return_id"]] = (payload["command_id"], self.now)
            if answered := self.participants.handle(row["type"], payload):
                self._replies.append((self.now + answered[1], answered[0]))
        return [row["type"] for row in rows]

    def _fault(self, row: Mapping[Any, Any]) -> str:
        """Return what is wrong with a command, so that no participant can handle it."""
        step = BY_COMMAND.get(row["type"])
        if step is None:
            return f"the outbox contains the unknown command {row['type']!r}"
        if row["aggregatetype"] != step.participant:
            return f"{row['type']} was sent to {row['aggregatetype']!r} instead of {step.participant!r}"
        payload = row["payload"]
        names: Sequence[str] = ("command_id", "return_id", *step.fields)
        if not isinstance(payload, dict) or (missing := [name for name in names if payload.get(name) is None]):
            return f"the payload of {row['type']} lacks {', '.join(missing) if isinstance(payload, dict) else 'fields'}"
        if payload["return_id"] not in self.participants.scripts:
            return f"{row['type']} has the unknown return_id {payload['return_id']!r}"
        return ""

    def _note(self, function: str, answer: InstanceAnswer) -> None:
        if answer.failure:
            self.problems.append(f"{function}() {answer.failure}")

    def take_problems(self) -> list[str]:
        """Return what went wrong since the last call of this method."""
        found, self.problems = list(dict.fromkeys(self.problems)), []
        return found


def require(instance: Instance) -> None:
    """Let the orchestrator create its tables, twice, since each start of a service does it."""
    for _ in range(2):
        answer = instance.call("create_tables", attempts=1)
        if answer.failure:
            raise ProgramFailed(
                f"create_tables {answer.failure}.", log=instance.log(), next_step="correct create_tables"
            )
