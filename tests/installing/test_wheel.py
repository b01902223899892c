"""The wheel contains everything: configuration, datasets, the course and the files that it links to."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def committed_files(*folders: str) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name for name in listed.stdout.split("\0") if name}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of the files in a freshly built wheel."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_every_file_of_the_packages_is_in_the_wheel(names: set[str]) -> None:
    """Every committed file of the three packages is in the wheel, where Python finds it."""
    for folder, package in {"labservices": "labservices", "labkit": "labkit", "lab-stack/labstack": "labstack"}.items():
        wanted = {f"{package}/{name.removeprefix(f'{folder}/')}" for name in committed_files(folder)}
        assert wanted - names == set()


def test_other_files_are_in_the_tree(names: set[str]) -> None:
    """Configuration, datasets, notebooks and documents are below `labstack/tree`, laid out as in the repository."""
    tree = {name.removeprefix("labstack/tree/") for name in names if name.startswith("labstack/tree/")}
    configuration = {name for name in committed_files("lab-stack") if not name.startswith("lab-stack/labstack/")}
    assert configuration | committed_files("datasets", "notebooks") <= tree
    assert {"docs/architecture.md", "docs/images/architecture.png", "docs/asyncapi.yaml"} <= tree
    assert tree <= committed_files(), "a file that is not in the repository"


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    """The wheel contains no tests, no tools and no duplicate of a package."""
    assert {name.partition("/")[0] for name in names if ".d" not in name.partition("/")[0]} == {
        "labkit",
        "labservices",
        "labstack",
    }
    assert not [name for name in names if name.startswith("labstack/tree/lab-stack/labstack/")]
