"""conda and Binder install the same lab; the tests only read the files, since conda can't run here."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from tools.lock import CONSTRAINTS

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "environment.yml", ROOT / "binder" / "environment.yml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pip_lines(environment: dict[str, Any]) -> list[list[str]]:
    (section,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    return [line.split() for line in section]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_environment_installs_python_pip_and_the_project(path: Path) -> None:
    """conda installs pip and a supported Python, and pip installs the project at the locked versions."""
    environment = load(path)
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert [re.split("[=<>]", entry)[0] for entry in conda] == ["python", "pip"]
    python = conda[0].partition("=")[2]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    (constraint_flag, constraint), (project_flag, project) = pip_lines(environment)
    assert (constraint_flag, project_flag) == ("--constraint", "--editable")
    # conda and Binder run pip in the folder of the environment file.
    assert (path.parent / constraint).resolve() == CONSTRAINTS
    assert (path.parent / project).resolve() == ROOT


def test_both_environments_are_the_same() -> None:
    """Binder's file differs from the root's only in its relative paths."""
    root, binder = (load(path) for path in FILES)
    seen_from_binder = [[flag, place.replace("..", ".").removeprefix("./")] for flag, place in pip_lines(binder)]
    assert seen_from_binder == [[flag, place.removeprefix("./")] for flag, place in pip_lines(root)]
    root["dependencies"].pop()
    binder["dependencies"].pop()
    assert binder == root


def test_binder_downloads_programs_during_the_image_build() -> None:
    """postBuild is executable, stops at the first failure, and downloads all programs before the first notebook."""
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    shebang, *lines = script.read_text(encoding="utf-8").splitlines()
    assert shebang == "#!/usr/bin/env bash"
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    assert "lab prefetch" in commands
    packages = (ROOT / "binder" / "apt.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in packages if line and not line.startswith("#")] == ["prometheus"]


def test_prefetch_command_exists() -> None:
    """The command that postBuild runs exists."""
    from labstack.cli import main

    assert "prefetch" in main.commands


def test_devcontainer_is_valid_and_its_commands_exist() -> None:
    """The file for Codespaces is JSON with comments, and each of its commands exists."""
    from labstack.cli import main

    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    devcontainer = json.loads("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//")))
    made = devcontainer["onCreateCommand"].split(" && ")
    assert made[0] == "python3 start.py env"
    assert set(re.findall(r"\blab (\w+)", " ".join(made[1:]))) == {"prefetch"} <= set(main.commands)
    assert devcontainer["postAttachCommand"] == "python3 start.py --no-browser"
    assert "--no-browser" in (ROOT / "start.py").read_text(encoding="utf-8")
    assert devcontainer["containerEnv"]["LAB_MODE"] == "local"
    assert "/.venv/bin:" in devcontainer["remoteEnv"]["PATH"]  # VS Code's terminals find `lab`


def test_no_file_belongs_to_two_packages() -> None:
    """Each installed file belongs to one package (by their RECORD files), so no package overwrites another's files."""
    owners: dict[str, set[str]] = defaultdict(set)
    for package in distributions():
        name = package.name  # each access to the name reads the package's metadata again
        for file in package.files or ():
            if "__pycache__" not in file.parts:
                owners[str(file)].add(name)
    assert len(owners) > 1000
    assert {file: sorted(names) for file, names in owners.items() if len(names) > 1} == {}
