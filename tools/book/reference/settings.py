"""The page of settings: the environment variables of the lab and of the services, and the fault switches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from pydantic_core import PydanticUndefined

from labservices.settings import FAULT_SWITCHES, Settings, variable
from labstack.config.variables import VARIABLES
from tools.book.reference.markdown import join, table

OPENING = """
# Settings and switches

All settings are environment variables. Set them before `lab up`; a lab that runs stays what it is.
"""
OF_SERVICES = """
## What a service reads

The lab sets these for each service that it starts. Those that the lab leaves open, such as
`LAB_ORDER_DEADLINE_SECONDS`, are taken from your own environment at `lab up` and `lab restart`. An empty variable
counts as not set.
"""
OF_SWITCHES = """
## Teaching switches

What a service can be made to do wrong on purpose: `lab switch on payment inbox-off`, `lab.faults.on("payment",
"inbox-off")`. All are off at first; `lab reset` turns them off again.
"""


def page(root: Path) -> str:
    """Return the page."""
    lab = [(f"`{name}`", one.does, one.values, one.default) for name, one in VARIABLES.items()]
    services = [
        (f"`{variable(name)}`", field.description or "", kind(field.annotation), default(field))
        for name, field in Settings.model_fields.items()
    ]
    switches = [(f"`{name}`", one.does, one.example) for name, one in FAULT_SWITCHES.items()]
    return join(
        OPENING,
        "## What the lab reads",
        table(["variable", "what it decides", "values", "default"], lab),
        OF_SERVICES,
        table(["variable", "what it is", "kind", "default"], services),
        OF_SWITCHES,
        table(["switch", "effect", "values"], switches),
    )


def kind(annotation: Any) -> str:
    """Return the type of a setting as text."""
    words = {str: "text", int: "whole number", float: "number", Path: "folder", dict[str, str]: "list"}
    if annotation in words:
        return words[annotation]
    options = [word for word in get_args(annotation) if word is not type(None)]
    if all(isinstance(word, str) for word in options):
        return " or ".join(f"`{word}`" for word in options)
    return kind(options[0])


def default(field: Any) -> str:
    """Return a setting's default as text."""
    if field.is_required():
        return "must be set"
    value = field.get_default(call_default_factory=True)
    return f"`{value}`" if value not in (PydanticUndefined, None, "", {}) else "none"
