"""The objects of a notebook stay small enough to learn."""

from __future__ import annotations

from pathlib import Path

from labkit.aliases import Aliases
from labkit.inspect.look import Look
from labstack import Lab
from labstack.config.paths import LabPaths


def public_members(one: object) -> list[str]:
    """Return the public methods, properties and attributes of an object."""
    return [name for name in dir(one) if not name.startswith("_")]


def test_lab_and_look_have_few_public_members(tmp_path: Path) -> None:
    """`lab` has its verbs and four groups, `look` its groups and views; what belongs together is in a group."""
    lab = Lab(paths=LabPaths(tmp_path / "state", tmp_path / "cache"))
    assert len(public_members(lab)) <= 15
    assert len(public_members(Look(lab, Aliases()))) <= 18
