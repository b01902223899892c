"""What a scenario that is being played remembers: its lab, its orders, what clients were answered."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from labstack.errors import LabError
from labstack.lab import Lab
from labstack.paths import write_atomically
from labstack.waiting import wait_until

PATIENCE = 45.0
"""Seconds that a step waits, at most, for what it wants to see."""


class NotSeen(LabError):
    """What a scenario's step waits for did not come: the fault had no effect, or the healing left something."""


class ScenarioOn(LabError):
    """Another scenario is being shown, or none."""


@dataclass
class Stage:
    """Where a scenario is played.

    Attributes
    ----------
    lab : Lab
        The running lab.
    scenario : str
        Which is played.
    orders : dict
        The ids of the orders that it has placed, by the name that its file gives them.
    answers : dict
        How many requests got which HTTP status, by the name that its file gives them; 0 where none came.
    healing : bool
        Whether somebody has begun to heal it.
    patience : float
        Seconds that a step waits at most.
    """

    lab: Lab
    scenario: str
    orders: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    healing: bool = False
    patience: float = PATIENCE

    # -- on disk, so that another process can heal what one has broken --------------------------------------------

    @classmethod
    def of(cls, lab: Lab) -> Stage | None:
        """Return the stage of the scenario that is on, if one is."""
        try:
            said = json.loads(lab.paths.scenario_file.read_text(encoding="utf-8"))
            answers = {name: Counter(counts) for name, counts in said["answers"].items()}
            return cls(lab, said["scenario"], said["orders"], answers, said["healing"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScenarioOn(
                f"What the last scenario wrote down can't be read ({error}).",
                next_step="`lab reset` brings the lab to the course's start and forgets it",
            ) from error

    def keep(self) -> None:
        """Write down how far it is."""
        names = ("scenario", "orders", "answers", "healing")
        write_atomically(self.lab.paths.scenario_file, json.dumps({name: getattr(self, name) for name in names}))

    def forget(self) -> None:
        """It is over."""
        self.lab.paths.scenario_file.unlink(missing_ok=True)

    # -- for the verbs ---------------------------------------------------------------------------------------------

    def ids(self, name: str) -> list[str]:
        """Return the ids of the orders that the file calls `name`."""
        if name not in self.orders:
            there = ", ".join(self.orders) or "none"
            raise LabError(f"The scenario has no order {name!r}; it has {there}.", next_step="mend its file")
        return self.orders[name]

    @property
    def parameters(self) -> dict[str, list[uuid.UUID]]:
        """What ``%(NAME)s`` stands for in a scenario's SQL: the ids of the orders called NAME."""
        return {name: [uuid.UUID(one) for one in there] for name, there in self.orders.items()}

    def rows(self, service: str, query: str) -> list[tuple[Any, ...]]:
        """Ask a service's database; ``%(NAME)s`` in the query is the list of ids of the orders called NAME."""
        with psycopg.connect(self.lab.endpoints.databases[service], connect_timeout=5) as connection:
            connection.read_only = True
            return connection.execute(query.encode(), self.parameters).fetchall()

    def see(self, what: str, probe: Callable[[], Any], wanted: Callable[[Any], bool]) -> None:
        """Wait until the answer of `probe` is as wanted.

        Raises
        ------
        NotSeen
            It is not in time; tells the last answer.
        """
        last: list[Any] = [None]

        def ask() -> bool:
            try:
                last[0] = probe()
            except (psycopg.Error, LabError, OSError) as error:
                # What is just coming back does not answer yet.
                last[0] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                return False
            return wanted(last[0])

        if not wait_until(ask, self.patience, interval=0.1):
            raise NotSeen(
                f"Scenario {self.scenario}: {what}: not seen within {self.patience:.0f} s; it was {last[0]!r}.",
                next_step="`lab` shows how the parts are, `lab reset` brings everything back to the course's start",
            )
