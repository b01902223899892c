"""The files for GitHub, Read the Docs and pre-commit match their schemas, and the commands in them exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from labstack.cli import main
from tools.check import SUITES

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        *(("vendor.github-workflows", file) for file in WORKFLOWS),
        ("vendor.dependabot", ROOT / ".github" / "dependabot.yml"),
        ("vendor.readthedocs", ROOT / ".readthedocs.yaml"),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_file_is_valid_against_its_schema(schema: str, file: Path) -> None:
    """Each file is valid against its schema, since GitHub ignores unknown keys or rejects the whole file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
def test_actionlint_reports_no_errors(tmp_path: Path) -> None:
    """Expressions, shells and runner names in the workflows are valid."""
    if not shutil.which("go"):
        pytest.skip("NOT TESTED: there is no Go on this machine to build actionlint")
    built = subprocess.run(
        ["go", "install", ACTIONLINT], env={**os.environ, "GOBIN": str(tmp_path)}, capture_output=True, text=True
    )
    if built.returncode:
        pytest.skip(f"NOT TESTED: actionlint can't be built: {built.stderr[-300:]}")
    done = subprocess.run([tmp_path / "actionlint", *WORKFLOWS], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_everything_that_a_workflow_runs_exists(file: Path) -> None:
    """The scripts, suites, notebooks and `lab` commands of a workflow exist, and no job has unneeded permissions."""
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] in ({"contents": "read"}, {"contents": "write"})
    assert (workflow["permissions"]["contents"] == "write") == (file.name == "release.yml")
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            command = step.get("run", "")
            for path in re.findall(r"(?:^|\s)(\.ci/\w+|start\.py|tools/\S+|tests/\S+|notebooks/\S+)", command):
                assert (ROOT / path).exists(), command
            for verb in re.findall(r"\.venv/bin/lab (\S+)", command):
                assert verb in main.commands
            if tested := re.search(r"start\.py test ((?:[a-z]+ ?)+)$", command):
                assert set(tested[1].split()) <= set(SUITES)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_action_is_pinned_to_a_commit(file: Path) -> None:
    """An action is named by its commit, since a tag can be moved, and its version is in a comment."""
    used = re.findall(r"uses: (.*)", file.read_text(encoding="utf-8"))
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)] == []


def steps(name: str) -> list[str]:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))["jobs"]
    return [step.get("run", "") for job in jobs.values() for step in job["steps"]]


def test_a_release_has_a_bill_of_materials_and_nightly_searches_it() -> None:
    """A release contains its bill of materials, and every night a scanner of a fixed version searches the same."""
    release, nightly = steps("release.yml"), steps("nightly.yml")
    (made,) = [number for number, command in enumerate(release) if "make_sbom.py build/dist/" in command]
    (published,) = [number for number, command in enumerate(release) if "gh release create" in command]
    assert made < published
    (searched,) = [command for command in nightly if "osv-scanner@v" in command]
    assert any(command.endswith(f"make_sbom.py {searched.split()[-1]}") for command in nightly)


def test_hooks_match_the_lint_suite() -> None:
    """A commit that passes the hooks passes tests/lint."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["entry"].split("/")[-1].split()[0] for hook in hooks} == {"ruff", "mypy"}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)
