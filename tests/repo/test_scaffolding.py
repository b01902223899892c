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
BINARY = (".png", ".gif", ".binpb")


def committed_files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone: there is no list of committed files")
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


@pytest.mark.parametrize("path", LICENCES)
def test_a_licence_is_the_standard_text(path: str) -> None:
    """A licence file is the unchanged standard text."""
    assert hashlib.sha256((ROOT / path).read_bytes()).hexdigest() == LICENCES[path]


def test_package_metadata_names_the_licence() -> None:
    """The package's metadata names the licence in the root folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_changelog_follows_keep_a_changelog() -> None:
    """Unreleased comes first, every version has a date, and section names follow Keep a Changelog."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version) for version in versions[1:])
    sections = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert sections <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_contributing_names_only_existing_paths() -> None:
    """Each file and folder that CONTRIBUTING.md names exists, unless its name contains the placeholder NAME or NN."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    names = re.findall(r"`([\w./-]+)`", text) + re.findall(r"python (\S+\.py)", text)
    suffixes = (".py", ".toml", ".md", ".yaml", ".yml", ".lock", ".json", ".ipynb", ".in", ".mmd")
    is_path = [name for name in names if "/" in name or name.endswith(suffixes)]
    paths = [name for name in is_path if not re.search(r"\b(NAME|NN)\b", name)]
    assert len(paths) > 10
    assert [place for place in {*links, *paths} if not (ROOT / place).exists()] == []


def test_every_test_has_a_docstring() -> None:
    """Each test function has a docstring of one sentence."""
    undocumented = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for test in functions:
            if test.name.startswith("test_") and not (ast.get_docstring(test) or "").rstrip().endswith("."):
                undocumented.append(f"{path.relative_to(ROOT)}:{test.lineno} {test.name}")
    assert undocumented == []


def test_nothing_generated_is_committed() -> None:
    """No cache, environment or editor's temporary file is committed, and no file larger than 1 MiB."""
    paths = committed_files()
    assert len(paths) > 50
    junk = re.compile(r"(^|/)(__pycache__|\.venv|\.\w+_cache|\.ipynb_checkpoints|\.hypothesis|node_modules)/|\.pyc$")
    assert [path for path in paths if junk.search(path)] == []
    assert [path for path in paths if (ROOT / path).stat().st_size > SIZE_LIMIT] == []


def test_text_is_utf8_with_unix_line_ends() -> None:
    """Every committed text file has the encoding and line ends that .editorconfig requires."""
    wrong = []
    for path in committed_files():
        data = (ROOT / path).read_bytes()
        if path.endswith(BINARY) or not data:
            continue
        if b"\r" in data or not data.endswith(b"\n"):
            wrong.append(path)
        data.decode("utf-8")
    assert wrong == []


def test_clone_has_unix_line_ends_under_windows_settings(tmp_path: Path) -> None:
    """With git's settings for Windows, a clone has the committed bytes, so that scripts start and checksums match."""
    committed_files()  # skips the test if there is no clone
    settings = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", *settings, ROOT.as_uri(), clone], check=True)
    texts = [path for path in clone.rglob("*") if path.is_file() and path.suffix not in BINARY]
    assert [path for path in texts if ".git" not in path.parts and b"\r\n" in path.read_bytes()] == []


def test_no_committed_file_contains_a_local_path() -> None:
    """No committed file contains a path in a user's home or work folder; the learner's home in an image is not one."""
    pattern = re.compile(rb"(?<![\w.$}~-])/(?:home|Users|root|work|tmp/w)/(?!learner\b)\w")
    found = {path for path in committed_files() if pattern.search((ROOT / path).read_bytes())}
    assert found == set()
