"""The README, held against what it speaks of."""

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
    """Whoever opens it reads it to its end; tables belong to docs/."""
    assert len(README.splitlines()) < 90
    assert "\n| " not in README


def test_every_verb_of_the_command_is_documented() -> None:
    """Whoever reads the table of commands knows every verb of `lab`."""
    documented = set(re.findall(r"`(?:lab )?([a-z-]+)(?: [^`]*)?`", COMMANDS))
    assert set(main.commands) - documented == set()


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`lab ([a-z-]+)", README + COMMANDS))))
def test_every_verb_that_is_documented_exists(verb: str) -> None:
    """No verb is promised that the command doesn't have."""
    assert verb in main.commands


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"`lab\.([a-z_]+)\(", README + COMMANDS))))
def test_every_method_that_is_documented_exists(verb: str) -> None:
    """No method is promised that Lab doesn't have."""
    assert callable(getattr(Lab, verb))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_of_the_readme_leads_somewhere(target: str) -> None:
    """What the README links to is in the tree."""
    assert (ROOT / target).exists()


def test_the_first_notebook_is_where_the_first_command_opens_it() -> None:
    """`python3 start.py` opens a notebook that exists, and that the README names."""
    assert (ROOT / start.FIRST_NOTEBOOK).exists()
    assert start.FIRST_NOTEBOOK in README


def test_ci_runs_the_readmes_test_command() -> None:
    """What CI runs is what the README tells everybody to run."""
    assert "python3 start.py test" in README
    assert "python3 start.py test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
