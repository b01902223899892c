"""The exceptions that a notebook can raise, each with a next step.

LabError
└── KitError
    ├── Refused         the shop rejects a request and gives a reason (4xx)
    │   ├── NotFound    the resource does not exist (404)
    │   └── Conflict    the state does not allow the request, or its key was used before (409)
    ├── ShopUnavailable a service is unavailable (5xx, no connection)
    ├── QueryFailed     PostgreSQL rejects a query
    └── WaitTimedOut    a wait timed out; the message contains what was seen last

In a notebook these errors show their message without a stack trace. Every other error shows a next step below Python's
message. Most of those come from a cell that was skipped or ran twice, or from a component that is not running.
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
    from labstack.backends.base import Endpoints


class KitError(LabError):
    """An operation that a notebook requested failed."""


class Refused(KitError):
    """The shop rejects a request.

    Parameters
    ----------
    problem : dict
        The problem document (RFC 9457) in the service's response.
    """

    advice = "mend what the answer names, and run the cell again"
    """The next step, shown when no code handles the error; the message itself comes from the shop."""

    def __init__(self, problem: dict[str, Any]) -> None:
        details = [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors", [])]
        message = "; ".join([str(problem.get("detail", "no details")), *details])
        super().__init__(f"{problem.get('status')} {problem.get('title', '')}: {message}")
        self.document = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.document.get("status", 0))

    def _render_traceback_(self) -> list[str]:
        return [*super()._render_traceback_(), f"Next step: {self.advice}"]


class NotFound(Refused):
    """The requested resource does not exist."""

    advice = "run the cells above once more, from the one that places the order: `lab.reset()` removes every order"


class Conflict(Refused):
    """The order's state does not allow the request, or the idempotency key was used before."""

    advice = "run the cells above once more, from the one that places the order or makes the key"


class ShopUnavailable(KitError):
    """A service is unavailable: it does not answer, or it cannot serve requests at present."""


def running(lab: Lab) -> Endpoints:
    """Return the endpoints of a running lab.

    Raises
    ------
    ShopUnavailable
        The lab is down.
    """
    if not lab.is_up:
        raise ShopUnavailable("The lab is down.", next_step="`lab.up()` starts it")
    return lab.endpoints


class QueryFailed(KitError):
    """PostgreSQL rejects a query."""


class WaitTimedOut(KitError):
    """A wait timed out."""


def load_ipython_extension(shell: Any) -> None:
    """Add a next step to errors that come from skipped or repeated cells.

    Every kernel of the lab's environment loads this extension at startup (ipython_kernel_config.json), because the
    skipped cell is often the first one.

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
    """Return the next step after an error that the lab did not raise."""
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
    """Return the global names of the code that failed."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals if trace else None
