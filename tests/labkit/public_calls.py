"""The public calls of `labkit` and of the `Lab` object, found by introspection."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labkit
from labkit import Session
from labkit.client.practice import Practice
from labstack.backends.base import Endpoints
from labstack.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(r"^from (labkit[\w.]*) import (.+)$", re.MULTILINE)


def calls_of(session: Session) -> dict[str, Callable[..., Any]]:
    """Return every public call that has a parameter, by its name in a notebook."""
    found: dict[str, Callable[..., Any]] = {}
    roots = {**session._asdict(), "practice": Practice(session.lab)}
    for name, root in roots.items():
        found |= _members(name, root, set())
    found |= {name: call for name, call in _imported() if inspect.signature(call).parameters}
    return found


def _members(path: str, thing: object, seen: set[int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in dir(type(thing)) + list(vars(thing)):
        if name.startswith("_"):
            continue
        try:
            member = getattr(thing, name)
        except LabError:  # a property of a lab that does not run
            continue
        if inspect.ismethod(member):
            if inspect.signature(member).parameters:
                found[f"{path}.{name}"] = member
        elif _is_object(member) and id(type(member)) not in seen:
            found |= _members(f"{path}.{name}", member, {*seen, id(type(member))})
    return found


def _is_object(member: object) -> bool:
    own = type(member).__module__.startswith(("labkit", "labstack"))
    return own and hasattr(member, "__dict__") and not isinstance(member, Endpoints)


def _imported() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield what the package exports, and what the notebooks import from its modules."""
    yield from ((name, getattr(labkit, name)) for name in labkit.__all__ if name != "Session")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for module, names in IMPORT.findall("\n".join("".join(cell["source"]) for cell in cells)):
            for name in (one.strip() for one in names.split(",")):
                package = importlib.import_module(module)
                thing = getattr(package, name, None) or importlib.import_module(f"{module}.{name}")
                if inspect.ismodule(thing):
                    yield from ((f"{name}.{one}", getattr(thing, one)) for one in thing.__all__ if one != "NOWHERE")
                elif not (inspect.isclass(thing) and issubclass(thing, Exception)):
                    yield name, thing
