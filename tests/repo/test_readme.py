"""The README matches the code and files that it describes."""

import re
from pathlib import Path

import pytest

import start
from labstack import Lab
from labstack.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def test_the_readme_is_one_page() -> None:
    """The README is short enough to be read to the end, and leaves tables to docs/."""
    assert len(README.splitlines()) < 90
    assert "\n| " not in README


def test_every_command_is_documented() -> None:
    """The table of commands lists every command of `lab`."""
    documented = set(re.findall(r"`(?:lab )?([a-z-]+)(?: [^`]*)?`", COMMANDS))
    assert set(main.commands) - documented == set()


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`lab ([a-z-]+)", README + COMMANDS))))
def test_every_documented_command_exists(verb: str) -> None:
    """Every documented command of `lab` exists."""
    assert verb in main.commands


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`lab\.([a-z_]+)\(", README + COMMANDS))))
def test_every_documented_method_exists(verb: str) -> None:
    """Every documented method of Lab exists."""
    assert callable(getattr(Lab, verb))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_of_the_readme_leads_to_a_file(target: str) -> None:
    """Every link of the README leads to an existing file."""
    assert (ROOT / target).exists()


def test_first_command_opens_an_existing_notebook() -> None:
    """`python3 start.py` opens a notebook that exists and that the README names."""
    assert (ROOT / start.FIRST_NOTEBOOK).exists()
    assert start.FIRST_NOTEBOOK in README


def test_ci_runs_the_readmes_test_command() -> None:
    """CI runs the test command that the README gives."""
    assert "python3 start.py test" in README
    assert "python3 start.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
