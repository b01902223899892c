"""The lock says what pyproject.toml says, for everybody, wherever it was written."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import CONSTRAINTS, LOCK, OLDEST_PYTHON, constraints

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
TEXT = LOCK.read_text(encoding="utf-8")
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
]


def pins() -> dict[str, list[Requirement]]:
    """Return the lock's pins by name; a name has several where systems need different versions."""
    found: dict[str, list[Requirement]] = {}
    for line in TEXT.splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.removesuffix("\\"))
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


def applies(requirement: Requirement, environment: dict[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": "", **environment})


@pytest.mark.parametrize("requirement", DIRECT, ids=lambda requirement: requirement.name)
def test_a_direct_dependency_is_pinned_and_locked(requirement: Requirement) -> None:
    """What pyproject.toml names is pinned exactly, and the lock has that version on each system that needs it."""
    assert [spec.operator for spec in requirement.specifier] == ["=="], "direct dependencies are pinned"
    locked = pins().get(canonicalize_name(requirement.name), [])
    for platform in PLATFORMS:
        if applies(requirement, platform):
            assert [version(pin) for pin in locked if applies(pin, platform)] == [version(requirement)], platform


def test_the_lock_is_closed() -> None:
    """Whatever a locked package needs here is locked too, in a version that satisfies it."""
    locked = {name: pin for name, found in pins().items() for pin in found if applies(pin, {})}
    waiting = [(requirement, "pyproject.toml") for requirement in DIRECT if applies(requirement, {})]
    seen: set[tuple[str, str]] = set()
    wrong = []
    while waiting:
        requirement, by = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name not in locked or not requirement.specifier.contains(version(locked[name]), prereleases=True):
            wrong.append(f"{by} needs {requirement}")
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            needs = [Requirement(line) for line in metadata.requires(name) or []]
            waiting += [(need, name) for need in needs if applies(need, {"extra": extra})]
    assert wrong == []
    assert len(seen) > len(DIRECT)


def test_every_pin_has_hashes() -> None:
    """Nothing is installed that isn't the file that was locked."""
    blocks = re.split(r"\n(?=[a-z0-9])", TEXT)[1:]
    assert len(blocks) == sum(len(found) for found in pins().values())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("path", [LOCK, CONSTRAINTS], ids=lambda path: path.name)
def test_the_lock_names_no_place(path: Path) -> None:
    """No index, mirror, address or folder of the machine that locked it."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"://|--(?:extra-)?index|--find-links|--trusted-host| @ |file:|(?:^|\s)/\w+", text) == []


def test_the_constraints_are_the_lock() -> None:
    """The file for conda's pip has the lock's versions, all of them, and no hash."""
    text = CONSTRAINTS.read_text(encoding="utf-8")
    assert text == constraints(TEXT)
    lines = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    assert lines == [pin for found in pins().values() for pin in found]


def test_the_lock_serves_the_oldest_python() -> None:
    """The lock is made for the oldest Python that the project promises."""
    assert PROJECT["requires-python"] == f">={OLDEST_PYTHON}"
