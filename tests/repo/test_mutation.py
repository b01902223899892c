"""The mutation tests' lists: they name modules, tests and lines that exist."""

from __future__ import annotations

import shlex
import tomllib
from pathlib import Path

import pytest

from tests.mutation.__main__ import configuration
from tests.mutation.survivors import Mutant, accepted
from tests.mutation.targets import TARGETS, is_left_out

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_names_modules_and_tests(name: str) -> None:
    """Each module and each test file of a target exists."""
    target = TARGETS[name]
    files = [*target.modules, *(argument for argument in target.tests if argument.startswith("tests/"))]
    assert [file for file in files if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("name", TARGETS)
def test_the_configuration_has_the_command_of_the_target(name: str) -> None:
    """cosmic-ray's configuration is valid TOML, and its command has the arguments of the target."""
    found = tomllib.loads(configuration(TARGETS[name]))["cosmic-ray"]
    assert found["module-path"] == list(TARGETS[name].modules)
    assert tuple(shlex.split(found["test-command"])[-len(TARGETS[name].tests) :]) == TARGETS[name].tests


@pytest.mark.parametrize("mutant", accepted(), ids=str)
def test_an_accepted_mutant_is_in_the_code_and_has_a_reason(mutant: Mutant) -> None:
    """A mutant that may survive belongs to a target, changes a line that exists, and has a reason."""
    assert mutant.module in {module for target in TARGETS.values() for module in target.modules}
    lines = [line.strip() for line in (ROOT / mutant.module).read_text(encoding="utf-8").splitlines()]
    assert mutant.code in lines
    assert not is_left_out(f"core/{mutant.operator}")
    assert len(accepted()[mutant]) > 20
