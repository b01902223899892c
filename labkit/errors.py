"""The exceptions that a notebook can raise, each with a next step.

LabError
└── KitError
    ├── Refused         the shop rejects a request and gives a reason (4xx)
    │   ├── NotFound    the resource does not exist (404)
    │   └── Conflict    the state does not allow the request, or its key was used before (409)
    ├── ShopUnavailable a service is unavailable (5xx, no connection)
    ├── QueryFailed     PostgreSQL rejects a query
    └── WaitTimedOut    a wait timed out; the message contains what was seen last, and what does not run

In a notebook these errors show their message without a stack trace. Every other error shows a next step below Python's
message. Most of those come from a cell that was skipped or ran twice, or from a component that is not running.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
from psycopg.errors import DuplicateColumn, DuplicateObject, DuplicateTable, UniqueViolation

from labstack.errors import LabError
from labstack.lab import access_of

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
    advice : str, optional
        The next step, if it differs from the class's own.
    """

    advice = "correct what the answer names, and run the cell again"
    """The next step, shown when no code handles the error; the message itself comes from the shop."""

    def __init__(self, problem: dict[str, Any], advice: str = "") -> None:
        details = [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors", [])]
        message = "; ".join([str(problem.get("detail", "no details")), *details])
        super().__init__(f"{problem.get('status')} {problem.get('title', '')}: {message}")
        self.document = problem
        self.advice = advice or type(self).advice

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

    advice = (
        "if a cell ran twice, run the cells above once more, from the one that places the order or makes the key; if "
        "the order was COMPLETED before your request, place another one and stop a service first: `lab.stop(...)`"
    )


class ShopUnavailable(KitError):
    """A service is unavailable: it does not answer, or it cannot serve requests at present."""


def running(lab: Lab) -> Endpoints:
    """Return the endpoints of a running lab.

    Raises
    ------
    ShopUnavailable
        The lab is down.
    """
    backend = access_of(lab).backend()
    if not backend.state.is_up:
        raise ShopUnavailable("The lab is down.", next_step="`lab.up()` starts it")
    return backend.endpoints()


class QueryFailed(KitError):
    """PostgreSQL rejects a query."""


@contextmanager
def database_errors(service: str) -> Iterator[None]:
    """Replace the errors of a service's database in a block.

    Raises
    ------
    ShopUnavailable
        The database does not answer.
    QueryFailed
        It rejects a statement.
    """
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) and not isinstance(error, psycopg.errors.QueryCanceled):
            raise ShopUnavailable(
                f"The database of {service} doesn't answer: {(str(error).splitlines() or [''])[-1]}",
                next_step=f"`lab` shows its state, `lab.start('{service}-db')` starts it",
            ) from None
        raise QueryFailed(f"{service} says: {str(error).strip()}", next_step=_query_advice(error)) from None


def _query_advice(error: psycopg.Error) -> str:
    text = str(error)
    if "placeholders" in text:
        return "with parameters, write each % that is not a placeholder as %%: LIKE 'a%%'"
    if "multiple commands" in text:
        return "send one statement per call"
    if "parameter missing" in text:
        return "pass it by its name: rows(service, query, name=value)"
    match error:
        case psycopg.errors.UndefinedTable():
            return "`SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'` lists the tables"
        case psycopg.errors.UndefinedColumn():
            return "`SELECT *` shows the columns of a table"
        case psycopg.errors.ReadOnlySqlTransaction() | psycopg.errors.InsufficientPrivilege():
            return "read with SELECT; to change something, use a connection: `with look.db.connect(service) as db:`"
        case psycopg.errors.QueryCanceled():
            return "ask for fewer rows, with WHERE or LIMIT"
    return "correct the query where the message points"


class WaitTimedOut(KitError):
    """A wait timed out. The message names the components that do not run at that moment, and how to start them.

    Parameters
    ----------
    problem : str
        What was waited for, and what was seen last.
    next_step : str, optional
        What to do about it.
    lab : Lab, optional
        The lab; default: the one to which this notebook is attached.
    """

    def __init__(self, problem: str, *, next_step: str = "", lab: Lab | None = None) -> None:
        if lab := lab or _attached:
            seen, calls = _not_running(lab)
            problem = f"{problem} {seen}".rstrip()
            next_step = "; ".join(part for part in (calls, next_step) if part)
        super().__init__(problem, next_step=next_step)


_attached: Lab | None = None


def attach(lab: Lab) -> None:
    """Make this the lab whose stopped components a wait that timed out names."""
    global _attached
    _attached = lab


def _not_running(lab: Lab) -> tuple[str, str]:
    """Return what does not run, and the calls that start it; two empty texts if everything runs."""
    status = lab.status(memory=False)
    if status.state == "stopped":
        return "The lab is down.", "`lab.up()`"
    stopped = {name: component.state for name, component in status.components.items() if component.state != "running"}
    if not stopped:
        return "", ""
    verbs = {name: "faults.resume" if state == "paused" else "start" for name, state in stopped.items()}
    return (
        f"Not running: {', '.join(stopped)}.",
        " or ".join(f"`lab.{verb}({name!r})`" for name, verb in verbs.items()),
    )


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
        case psycopg.OperationalError() if not error.sqlstate or error.sqlstate.startswith(("08", "57P")):
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
        "cell again. Else correct what the message names."
    )


def _innermost(trace: TracebackType | None) -> dict[str, Any] | None:
    """Return the global names of the code that failed."""
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals if trace else None
