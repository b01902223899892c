"""What can go wrong in a notebook, each with what to do about it.

LabError
└── KitError
    ├── Refused         the shop says no to a request, and why (4xx)
    │   ├── NotFound    there is no such thing (404)
    │   └── Conflict    it can't be done any more, or a key was used before (409)
    ├── ShopAway        a service doesn't answer, or not now (5xx, no connection)
    ├── QueryFailed     PostgreSQL does not take a query
    └── WaitedTooLong   something did not happen in time; tells what was seen last

In a notebook they show their message and no stack of calls: it is the message that helps. Every other error gets its
advice below Python's own words: most come of a cell that was left out, or ran twice, or of a part that does not run.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from psycopg.errors import DuplicateColumn, DuplicateObject, DuplicateTable, UniqueViolation

from labstack.errors import LabError

if TYPE_CHECKING:
    from labstack import Lab
    from labstack.backend import Endpoints


class KitError(LabError):
    """Something that a notebook asked for did not work."""


class Refused(KitError):
    """The shop says no to a request.

    Parameters
    ----------
    problem : dict
        The problem document (RFC 9457) that the service answered with.
    """

    advice = "mend what the answer names, and run the cell again"
    """What to do where nothing takes the error up; the error's own words are the shop's."""

    def __init__(self, problem: dict[str, Any]) -> None:
        details = [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors", [])]
        said = "; ".join([str(problem.get("detail", "no details")), *details])
        super().__init__(f"{problem.get('status')} {problem.get('title', '')}: {said}")
        self.document = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.document.get("status", 0))

    def _render_traceback_(self) -> list[str]:
        return [*super()._render_traceback_(), f"Next step: {self.advice}"]


class NotFound(Refused):
    """There is no such thing."""

    advice = "run the cells above once more, from the one that places the order: `lab.reset()` removes every order"


class Conflict(Refused):
    """It can't be done any more, or a key was used before."""

    advice = "run the cells above once more, from the one that places the order or makes the key"


class ShopAway(KitError):
    """A service doesn't answer, or can't serve just now."""


def running(lab: Lab) -> Endpoints:
    """Return where the parts of a lab listen.

    Raises
    ------
    ShopAway
        The lab was never started, or was ended.
    """
    if not lab.is_up:
        raise ShopAway("The lab is down.", next_step="`lab.up()` starts it")
    return lab.endpoints


class QueryFailed(KitError):
    """PostgreSQL does not take a query."""


class WaitedTooLong(KitError):
    """Something did not happen in time."""


def load_ipython_extension(shell: Any) -> None:
    """Let what comes of cells left out, or run twice, say what to do.

    Every kernel of the lab's environment loads this as it starts (ipython_kernel_config.json): the cell that is left
    out is the first one, as often as not.

    Parameters
    ----------
    shell : IPython.core.interactiveshell.InteractiveShell
        The notebook's shell.
    """

    def explain(
        shell: Any, kind: type[Exception], error: Exception, trace: TracebackType | None, tb_offset: int | None = None
    ) -> None:
        if not isinstance(error, LabError):
            error.add_note(_advice_on(error, of_a_cell=_innermost(trace) is shell.user_ns))
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)

    shell.set_custom_exc((Exception,), explain)


def _advice_on(error: Exception, *, of_a_cell: bool) -> str:
    """Return the next step after an error that is not the lab's own."""
    match error:
        case UniqueViolation():
            return "Has this cell run before? Run the cells above it once more, from the one that makes the key."
        case DuplicateTable() | DuplicateObject() | DuplicateColumn():
            return "Has this cell run before? What it makes is there already. Next step: go on with the cell below."
        case psycopg.OperationalError():
            return "Next step: `lab` shows whether every database runs; `lab.up()` starts what does not."
        case httpx.HTTPError():
            return "Next step: `lab` shows whether what was asked runs; `lab.up()` starts what does not."
        case NameError() if error.name and of_a_cell:
            return (
                f"If a cell above makes `{error.name}`, it has not run since this kernel was started. "
                "Choose Run, then Run All Above Selected Cell, and run this cell again."
            )
    return (
        "Has a cell above not run, or this one twice? Then choose Run, and Run All Above Selected Cell, and run this "
        "cell again. Else mend what the message names."
    )


def _innermost(trace: TracebackType | None) -> dict[str, Any] | None:
    """Return the names that the code knew that failed."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals if trace else None
