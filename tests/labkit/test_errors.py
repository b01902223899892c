"""The advice that a cell's error gives, in a real kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import nbformat
import pytest
from nbclient import NotebookClient

from labkit import errors
from labkit.errors import WaitTimedOut
from labkit.waiting import wait_until
from labstack import Lab

TracebackOf = Callable[..., str]

NESTED_CALL = "import json\ndef answer(pairs):\n    return nobody\njson.loads('{}', object_pairs_hook=answer)"


@pytest.fixture(scope="module")
def traceback_of() -> Iterator[TracebackOf]:
    """Start a kernel, and return the function that runs a cell in it and returns the traceback of the cell's error."""
    notebook = nbformat.v4.new_notebook()
    client = NotebookClient(notebook, allow_errors=True, timeout=60, startup_timeout=120)

    def traceback_of(source: str, name: str = "NameError") -> str:
        notebook.cells.append(nbformat.v4.new_code_cell(source))
        cell = client.execute_cell(notebook.cells[-1], len(notebook.cells) - 1)
        (error,) = (output for output in cell.outputs if output.output_type == "error")
        assert error.ename == name
        return "\n".join(error.traceback)

    with client.setup_kernel():
        yield traceback_of


def test_an_undefined_name_is_reported_with_the_menu_entry(traceback_of: TracebackOf) -> None:
    """An undefined name is reported with the menu entry to choose, even inside a function or from the first cell."""
    for cell, name in [("order.status", "order"), (NESTED_CALL, "nobody"), ("lab", "lab")]:
        text = traceback_of(cell)
        assert f"makes `{name}`" in text
        assert "Run All Above" in text


def test_an_undefined_name_in_a_module_gets_no_such_advice(traceback_of: TracebackOf) -> None:
    """If a module's own code misses a name, the error does not claim that a cell defines it."""
    text = traceback_of("import sys, types\nodd = types.ModuleType('odd')\nexec('def f(): g', odd.__dict__)\nodd.f()")
    assert "makes `g`" not in text


def test_missing_results_and_components_have_a_next_step(traceback_of: TracebackOf) -> None:
    """Results missing because of skipped cells, and unreachable components, are reported with a next step."""
    assert "Run All Above" in traceback_of("[][0]", name="IndexError")
    text = traceback_of("import httpx\nhttpx.get('http://127.0.0.1:1/')", name="ConnectError")
    assert "`lab.up()`" in text


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("UniqueViolation", "Run the cells above it"),
        ("DuplicateTable", "go on with the cell below"),
        ("UndefinedTable", "Run All Above"),
        ("OperationalError", "`lab.up()`"),
        ("AdminShutdown", "`lab.up()`"),
        ("ObjectInUse", "correct what the message names"),
    ],
)
def test_errors_of_postgresql_have_a_next_step(traceback_of: TracebackOf, name: str, advice: str) -> None:
    """A repeated cell, a skipped cell, an unavailable database and a refused statement each have their next step."""
    text = traceback_of(
        f"import psycopg.errors, psycopg as p\nraise (vars(p.errors) | vars(p))['{name}']('no')", name=name
    )
    assert advice in text


@pytest.mark.parametrize(("name", "advice"), [("NotFound", "places the order"), ("Conflict", "makes the key")])
def test_errors_of_the_shop_have_a_next_step(traceback_of: TracebackOf, name: str, advice: str) -> None:
    """A removed order and a conflict have their next step, which is not part of the error's own message."""
    raised = f"from labkit.errors import {name}\ngone = {name}({{'status': 4, 'title': 'No', 'detail': 'gone'}})\n"
    assert advice in traceback_of(raised + "assert str(gone) == '4 No: gone'\nraise gone", name=name)


@pytest.mark.parametrize(
    ("state", "components", "seen", "advice"),
    [
        ("ready", {"kafka": "running"}, "", "look"),
        (
            "degraded",
            {"kafka": "running", "payment": "failed"},
            " Not running: payment.",
            "`lab.start('payment')`; look",
        ),
        ("degraded", {"order": "paused"}, " Not running: order.", "`lab.faults.resume('order')`; look"),
        ("stopped", {"kafka": "stopped", "order": "stopped"}, " The lab is down.", "`lab.up()`; look"),
    ],
)
def test_a_wait_that_timed_out_names_what_does_not_run(
    state: str, components: dict[str, str], seen: str, advice: str
) -> None:
    """The message names each component that does not run at that moment, and the call that starts it."""
    found = {name: SimpleNamespace(state=one) for name, one in components.items()}
    lab = cast(Lab, SimpleNamespace(status=lambda memory: SimpleNamespace(state=state, components=found)))
    error = WaitTimedOut("Waited.", next_step="look", lab=lab)
    assert (error.problem, error.next_step) == (f"Waited.{seen}", advice)


def test_a_wait_names_what_does_not_run_in_the_lab_of_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait_until` knows the lab to which `begin` has attached the notebook."""
    found = {"payment": SimpleNamespace(state="stopped")}
    lab = SimpleNamespace(status=lambda memory: SimpleNamespace(state="degraded", components=found))
    monkeypatch.setattr(errors, "_attached", lab)
    with pytest.raises(WaitTimedOut, match=r"for tea; the last result was 0\. Not running: payment\."):
        wait_until(lambda: 0, 0.01, what="tea")
