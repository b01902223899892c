"""Every public call with wrong types, unknown names, empty or absurd values answers with a next step."""

from __future__ import annotations

import inspect
import io
import math
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labkit import Session
from labkit.aliases import Aliases
from labkit.client.shop import Shop
from labkit.exercises.tasks import Tasks
from labkit.inspect.look import Look
from labstack import Lab
from labstack.config.paths import LabPaths
from labstack.errors import InvalidArgument, LabError
from labstack.lab import access_of
from tests.labkit.public_calls import calls_of

WRONG: list[Any] = [
    *(None, True, -1, 0, 10**30, 1.5, math.nan, math.inf, -math.inf, b"x", object(), print, np.int64(-1)),
    *([], [5], {}, {"a": object()}, {5: 5}, (), pd.DataFrame(), pd.DataFrame({"a": ["b"]}), Path("no-such")),
]
"""Values of types that most parameters do not accept."""

TEXTS = [
    *("", " ", "no such thing", "order-x", "order-99"),
    *("é\n", "\x00", "../x?y#z%", "[", "%s %", "a" * 10_000, "\ud800"),
]
"""Texts that most parameters accept, but that name nothing."""

PLAUSIBLE: dict[str, Any] = {
    "service": "order",
    "query": "SELECT 1",
    "expression": "up",
    "expressions": "up",
    "method": "GET",
    "path": "/orders?limit=1",
    "name": "walk",
    "topic": "order.events",
    "event_type": "OrderCreated",
    "n": 1,
    "times": 1,
    "count": 1,
    "per_second": 10,
    "customer_id": "ada",
    "destination": "rome",
    "items": {"rooibos": 1},
    "sku": "rooibos",
    "quantity": 1,
    "amount_cents": 1,
    "switch": "no-such-switch",
    "until": lambda rows: True,
    "probe": lambda: True,
    "group": "order",
    "file": Path("no-such.py"),
    "what": "",
    "letter_id": "order-1",
    "order_id": "no-such-order",
    "order": "order-99",
    "orders": ["order-99"],
    "identifier": "x",
    "value": "x",
    "documents": [],
    "views": [],
    "rows": [],
    "start": 0.0,
    "end": 1.0,
    "step": 1.0,
    "number": 1,
    "handle": print,
    "records": [],
    "partitions": 1,
    "who": "x",
    "notebook": "no-such",
    "key": b"x",
    "hits": 1,
    "share": 0.5,
    "waits": pd.DataFrame(),
    "lag": pd.DataFrame(),
    "stays": {},
    "service_time": 1.0,
    "teams": {},
    "marks": {},
    "title": "",
    "table": "points",
}
"""Values for the other required parameters of a call, so that it fails, if at all, at the wrong one."""


def variants(call: Callable[..., Any], session: Session, values: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return calls in which one parameter has a wrong value, each as text and as keyword arguments."""
    found = []
    parameters = [p for p in inspect.signature(call).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    objects = {**session._asdict(), "loyalty": None, "timeout": 0.1}
    for wrong in parameters:
        name = "anything" if wrong.kind is wrong.VAR_KEYWORD else wrong.name
        others = {
            one.name: objects.get(one.name, PLAUSIBLE.get(one.name))
            for one in parameters
            if one is not wrong and one.kind is not one.VAR_KEYWORD
            if one.default is one.empty or one.name == "timeout"
        }
        found += [(f"{name}={value!r}"[:120], {**others, name: value}) for value in values]
    return found


def complaint(call: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Call, and return the problem of its answer: an error that is not the project's, or has no next step."""
    try:
        with redirect_stdout(io.StringIO()):
            answer = call(**arguments)
            if inspect.isgenerator(answer) or isinstance(answer, map):
                next(iter(answer), None)
            if hasattr(answer, "__enter__") and hasattr(answer, "gen"):
                with answer:
                    pass
    except LabError as error:
        if not error.next_step and not getattr(error, "advice", ""):
            return f"no next step: {error}"
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


def complaints(session: Session, values: list[Any]) -> list[str]:
    found = []
    for name, call in calls_of(session).items():
        # A verb of the lab would take effect with True, None or a function; a text is only the name of nothing.
        fitting = [value for value in values if not name.startswith("lab.") or isinstance(value, str)]
        for shown, arguments in variants(call, session, fitting):
            if wrong := complaint(call, arguments):
                found.append(f"{name}({shown}): {wrong}")
    return found


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a session with a lab that does not run."""
    monkeypatch.chdir(tmp_path)
    lab = Lab(paths=LabPaths(tmp_path / "lab", tmp_path / "cache"))
    aliases = Aliases()
    shop, look = Shop(lab, aliases), Look(lab, aliases)
    return Session(lab, shop, look, Tasks(lab, shop, look, "01"))


def test_every_public_call_is_found(stopped: Session) -> None:
    """The walk finds the calls of all objects that a notebook gets."""
    calls = calls_of(stopped)
    expected = {"lab.stop", "lab.mesh.apply", "lab.faults.on", "shop.order", "look.db.rows", "look.kafka.take"}
    expected |= {"look.metrics.prometheus.query", "tasks.check", "wait_until", "create_extension", "practice.write"}
    assert expected <= set(calls)
    assert len(calls) > 90


@pytest.mark.timeout(120)
def test_wrong_arguments_on_a_stopped_lab(stopped: Session) -> None:
    """On a stopped lab, every call with a wrong argument raises the project's own error with a next step."""
    assert complaints(stopped, [*WRONG, *TEXTS]) == []
    assert not access_of(stopped.lab).state().is_up


def test_wrong_types_are_named(stopped: Session) -> None:
    """The error for a wrong type names the call, the parameter and a valid value, before anything happens."""
    for call, arguments, message in (
        (stopped.lab.down, {"purge": "yes"}, "Lab.down got 'yes' as `purge`.\nNext step: pass True or False"),
        (stopped.lab.up, {"listener": 5}, "Lab.up got 5 as `listener`.\nNext step: pass a function"),
        (stopped.shop.place_order, {"customer_id": 5, "destination": "rome", "items": {}}, "pass a text"),
        (stopped.shop.place_order, {"customer_id": "a", "destination": "b", "items": {"a": "b"}}, "at 'a'"),
        (stopped.look.kafka.take, {"n": True}, "pass a whole number"),
        (stopped.look.wait_for_rest, {"orders": "order-1", "timeout": math.inf}, "pass a finite number"),
        (stopped.look.deliveries, {"orders": 5}, "pass an instance of Order or a text or a list"),
    ):
        with pytest.raises(InvalidArgument, match=re.escape(message)):
            call(**arguments)


@pytest.mark.timeout(500)
def test_wrong_arguments_on_a_running_lab(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a running lab, every call with a wrong argument returns, or raises an error with a next step."""
    monkeypatch.chdir(tmp_path)
    assert complaints(session, [*WRONG, *TEXTS]) == []
    assert session.lab.status(memory=False).state == "ready"
