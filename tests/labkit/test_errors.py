"""What a cell says when something is missing, in a real kernel."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

DEEPER = "import json\ndef answer(pairs):\n    return nobody\njson.loads('{}', object_pairs_hook=answer)"


def said(*cells: str, name: str = "NameError") -> str:
    """Run cells in a kernel of their own, and return what the last one's error, of that name, shows."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, allow_errors=True, timeout=60).execute()
    (error,) = (output for output in notebook.cells[-1].outputs if output.output_type == "error")
    assert error.ename == name
    return "\n".join(error.traceback)


def test_a_cell_that_was_left_out_is_missed_by_name() -> None:
    """A name that no cell has made yet is told, with what to choose from the menu; also one that a function misses,
    or the first cell makes.
    """
    for cell, name in [("order.status", "order"), (DEEPER, "nobody"), ("lab", "lab")]:
        told = said(cell)
        assert f"makes `{name}`" in told
        assert "Run All Above" in told


def test_a_fault_elsewhere_gets_no_such_advice() -> None:
    """Where a module's own code misses a name, no cell is said to make it."""
    told = said("import sys, types\nodd = types.ModuleType('odd')\nexec('def f(): g', odd.__dict__)\nodd.f()")
    assert "makes `g`" not in told


def test_whatever_fails_has_its_next_step() -> None:
    """What a cell finds missing, since others were left out, and a part that does not answer, say what to run."""
    assert "Run All Above" in said("[][0]", name="IndexError")
    told = said("import httpx\nhttpx.get('http://127.0.0.1:1/')", name="ConnectError")
    assert "`lab.up()`" in told


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("UniqueViolation", "Run the cells above it"),
        ("DuplicateTable", "go on with the cell below"),
        ("UndefinedTable", "Run All Above"),
        ("OperationalError", "`lab.up()`"),
    ],
)
def test_what_postgresql_refuses_is_followed_by_what_to_do(name: str, says: str) -> None:
    """A cell that ran twice, one that was left out, and a database that is away each have their next step."""
    told = said(f"import psycopg.errors, psycopg as p\nraise (vars(p.errors) | vars(p))['{name}']('no')", name=name)
    assert says in told


@pytest.mark.parametrize(("name", "says"), [("NotFound", "places the order"), ("Conflict", "makes the key")])
def test_what_the_shop_refuses_is_followed_by_what_to_do(name: str, says: str) -> None:
    """An order that a reset has removed, and one that can't be undone, have their next step; it is no part of the
    shop's own words.
    """
    raised = f"from labkit.errors import {name}\ngone = {name}({{'status': 4, 'title': 'No', 'detail': 'gone'}})\n"
    assert says in said(raised + "assert str(gone) == '4 No: gone'\nraise gone", name=name)
