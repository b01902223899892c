"""The files around the code: licences, changelog, contribution guide, and the form of all committed files."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# SHA-256 of the licence texts, as the Apache Software Foundation and Creative Commons publish them.
LICENCES = {
    "LICENSE": "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30",
    "datasets/LICENSE": "a2010f343487d3f7618affe54f789f5487602331c0a8d03f49e9a7c547cf0499",
}
SIZE_LIMIT = 2**20


def committed() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone: there is no list of committed files")
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


@pytest.mark.parametrize("path", LICENCES)
def test_a_licence_is_the_standard_text(path: str) -> None:
    """A licence file is the unchanged standard text."""
    assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == LICENCES[path]


def test_the_licence_is_the_one_that_the_package_names() -> None:
    """The package's metadata names the licence in the root folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_changelog_keeps_its_form() -> None:
    """Unreleased comes first, every version has a date, and section names follow Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    sections = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_contributing_names_real_places() -> None:
    """Each file and folder that CONTRIBUTING.md names exists."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    names = re.findall(r"`([\w./-]+)`", text) + re.findall(r"python (\S+\.py)", text)
    places = [name for name in names if "/" in name or "." in name]
    assert len(places) > 10
    assert [place for place in {*links, *places} if not (ROOT / place).exists()] == []


def test_every_test_says_what_must_be_so() -> None:
    """Each test function has a docstring of one sentence."""
    silent = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for test in functions:
            if test.name.startswith("test_") and not (ast.get_docstring(test) or "").rstrip().endswith("."):
                silent.append(f"{path.relative_to(ROOT)}:{test.lineno} {test.name}")
    assert silent == []


def test_nothing_generated_is_committed() -> None:
    """No cache, environment or editor's temporary file is committed, and no file larger than 1 MiB."""
    paths = committed()
    assert len(paths) > 50
    junk = re.compile(r"(^|/)(__pycache__|\.venv|\.\w+_cache|\.ipynb_checkpoints|\.hypothesis|node_modules)/|\.pyc$")
    assert [path for path in paths if junk.search(path)] == []
    assert [path for path in paths if (ROOT / path).stat().st_size > SIZE_LIMIT] == []


def test_text_is_utf8_with_unix_line_ends() -> None:
    """Every committed text file has the encoding and line ends that .editorconfig requires."""
    wrong = []
    for path in committed():
        data = (ROOT / path).read_bytes()
        if path.endswith((".png", ".gif", ".binpb")) or not data:
            continue
        if b"\r" in data or not data.endswith(b"\n"):
            wrong.append(path)
        data.decode("utf-8")
    assert wrong == []


def test_no_committed_file_names_a_machine() -> None:
    """No committed file contains a path in a user's home or work folder."""
    pattern = re.compile(rb"(?<![\w.$}~-])/(?:home|Users|root|work|tmp/w)/\w")
    found = {path for path in committed() if pattern.search((ROOT / path).read_bytes())}
    assert found == set()
