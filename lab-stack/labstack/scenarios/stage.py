"""The state of the active scenario: its lab, its orders, and the answers that clients got."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg

from labstack.clients.databases import connect
from labstack.config.paths import write_atomically
from labstack.errors import LabError
from labstack.lab import Lab, access_of
from labstack.waiting import poll_until

TIMEOUT = 45.0
"""Maximum number of seconds that a step waits for its condition."""


class ConditionNotMet(LabError):
    """The condition of a scenario's step was not met: the fault had no effect, or the healing was incomplete.

    Parameters
    ----------
    problem : str
        What was seen.
    next_step : str, optional
        What to do about it.
    """

    def __init__(self, problem: str, *, next_step: str = "run `lab reset` to restore the lab, then try again") -> None:
        super().__init__(problem, next_step=next_step)


class ScenarioActive(LabError):
    """Another scenario is active, or none is."""


@dataclass
class ScenarioStage:
    """The state of a scenario that is being played.

    Attributes
    ----------
    lab : Lab
        The running lab.
    scenario : str
        Name of the scenario.
    orders : dict
        Ids of the placed orders, by their name in the scenario's file.
    answers : dict
        Number of requests per HTTP status (0: no answer), by their name in the scenario's file.
    healing : bool
        Whether the healing has started.
    timeout : float
        Maximum number of seconds that a step waits.
    """

    lab: Lab
    scenario: str
    orders: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, Counter[str]] = field(default_factory=dict)
    healing: bool = False
    timeout: float = TIMEOUT

    # -- on disk, so that another process can heal what one has broken --------------------------------------------

    @classmethod
    def of(cls, lab: Lab) -> ScenarioStage | None:
        """Return the stage of the active scenario, or None."""
        try:
            saved = json.loads(access_of(lab).paths.scenario_file.read_text(encoding="utf-8"))
            answers = {name: Counter(counts) for name, counts in saved["answers"].items()}
            return cls(lab, saved["scenario"], saved["orders"], answers, saved["healing"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScenarioActive(
                f"The saved state of the last scenario can't be read ({error}).",
                next_step="run `lab reset` to restore the lab and delete that state",
            ) from error

    def save(self) -> None:
        """Write the state to disk."""
        names = ("scenario", "orders", "answers", "healing")
        write_atomically(
            access_of(self.lab).paths.scenario_file, json.dumps({name: getattr(self, name) for name in names})
        )

    def delete(self) -> None:
        """Delete the state from disk, because the scenario is over."""
        access_of(self.lab).paths.scenario_file.unlink(missing_ok=True)

    # -- for the verbs ---------------------------------------------------------------------------------------------

    def ids(self, name: str) -> list[str]:
        """Return the ids of the orders called `name` in the scenario's file."""
        if name not in self.orders:
            names = ", ".join(self.orders) or "none"
            raise LabError(f"The scenario has no order {name!r}; it has {names}.", next_step="fix its file")
        return self.orders[name]

    @property
    def parameters(self) -> dict[str, list[uuid.UUID]]:
        """Values of ``%(NAME)s`` in a scenario's SQL: the ids of the orders called NAME."""
        return {name: [uuid.UUID(one) for one in order_ids] for name, order_ids in self.orders.items()}

    def rows(self, service: str, query: str) -> list[tuple[Any, ...]]:
        """Query a service's database; ``%(NAME)s`` in the query is the list of ids of the orders called NAME."""
        with connect(self.lab.endpoints.databases[service], timeout=5) as connection:
            connection.read_only = True
            return connection.execute(query.encode(), self.parameters).fetchall()

    def expect(self, what: str, probe: Callable[[], Any], wanted: Callable[[Any], bool]) -> None:
        """Wait until the result of `probe` satisfies `wanted`.

        Raises
        ------
        ConditionNotMet
            It does not in time; reports the last result.
        """
        last: list[Any] = [None]

        def probe_succeeds() -> bool:
            try:
                last[0] = probe()
            except (psycopg.Error, LabError, OSError) as error:
                # A component that is restarting does not answer yet.
                last[0] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                return False
            return wanted(last[0])

        if not poll_until(probe_succeeds, self.timeout, interval=0.1):
            raise ConditionNotMet(
                f"Scenario {self.scenario}: {what}: not observed within {self.timeout:.0f} s; last seen: {last[0]!r}.",
                next_step="run `lab status` to see each component, or `lab reset` to restore the lab",
            )
