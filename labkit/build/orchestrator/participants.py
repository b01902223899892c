"""The participants as the judge plays them: each does, refuses, ignores or delays what it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Behaviour = Literal["done", "failed", "silent", "lost", "late"]
"""``silent``: the command is never handled; ``lost``: it is, without a reply; ``late``: the reply comes after 45 s."""

LATE = 45.0


@dataclass(frozen=True)
class SagaStep:
    """A step of the saga."""

    name: str
    participant: str
    command: str
    undo: str
    fields: tuple[str, ...]


STEPS = (
    SagaStep("restock", "warehouse", "RestockGoods", "UndoRestock", ("sku", "quantity")),
    SagaStep("refund", "payment", "RefundMoney", "UndoRefund", ("order_id", "amount_cents")),
    SagaStep("courier", "courier", "BookCourier", "CancelCourier", ("order_id",)),
)
NAMES = [step.name for step in STEPS]
BY_COMMAND = {command: step for step in STEPS for command in (step.command, step.undo)}


@dataclass(frozen=True)
class Script:
    """What the participants do for one return.

    Attributes
    ----------
    steps : sequence of Behaviour
        The behaviour at each step.
    ignored : mapping
        By command that undoes: how often it is ignored before it is answered.
    """

    steps: Sequence[Behaviour] = ("done", "done", "done")
    ignored: Mapping[str, int] = field(default_factory=dict)

    @property
    def commands(self) -> list[str]:
        """The commands that the orchestrator must send, in their order."""
        sent = []
        for number, behaviour in enumerate(self.steps):
            sent.append(STEPS[number].command)
            if behaviour != "done":
                last = number - 1 if behaviour == "failed" else number
                for step in reversed(STEPS[: last + 1]):
                    sent += [step.undo] * (1 + self.ignored.get(step.undo, 0))
                break
        return sent

    @property
    def view(self) -> dict[str, Any]:
        """The view of the return at its end."""
        for step, behaviour in zip(STEPS, self.steps, strict=True):
            if behaviour != "done":
                reason = f"{step.name}_refused" if behaviour == "failed" else "timeout"
                return {"status": "CANCELLED", "waiting_for": None, "done": [], "failure_reason": reason}
        return {"status": "COMPLETED", "waiting_for": None, "done": NAMES, "failure_reason": None}

    def __str__(self) -> str:
        return ", ".join(f"{step.name} {behaviour}" for step, behaviour in zip(STEPS, self.steps, strict=True))


@dataclass
class Participants:
    """Handles commands: each command id is executed once, and an undo that comes first prevents its step."""

    scripts: dict[str, Script] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)
    effects: dict[str, Counter[str]] = field(default_factory=dict)
    _handled: dict[str, dict[str, Any]] = field(default_factory=dict)
    _prevented: set[tuple[str, str]] = field(default_factory=set)
    _ignored: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, return_id: str, script: Script) -> None:
        """Add a return with its script."""
        self.scripts[return_id], self.commands[return_id], self.effects[return_id] = script, [], Counter()

    def standing(self, return_id: str) -> dict[str, int]:
        """Return how often each step is done and not undone."""
        return {name: count for name, count in self.effects[return_id].items() if count}

    def handle(self, command_type: str, payload: Mapping[str, Any]) -> tuple[dict[str, Any], float] | None:
        """Handle a command; return the reply and its delay in seconds, or None."""
        return_id, command_id = str(payload["return_id"]), str(payload["command_id"])
        script, step = self.scripts[return_id], BY_COMMAND[command_type]
        self.commands[return_id].append(command_type)
        reply = {"command_id": command_id, "return_id": return_id, "outcome": "done", "reason": None}
        if command_type == step.undo:
            if self._ignored[return_id, command_type] < script.ignored.get(command_type, 0):
                self._ignored[return_id, command_type] += 1
                return None
            self._prevented.add((return_id, step.name))
            self.effects[return_id][step.name] = 0
            return reply, 0
        behaviour = script.steps[NAMES.index(step.name)]
        if behaviour == "silent":
            return None
        if behaviour == "failed" or (return_id, step.name) in self._prevented:
            return {**reply, "outcome": "failed", "reason": f"{step.name}_refused"}, 0
        if command_id not in self._handled:
            self._handled[command_id] = reply
            self.effects[return_id][step.name] += 1
        return None if behaviour == "lost" else (reply, LATE if behaviour == "late" else 0)
