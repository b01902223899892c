"""The lock files agree with pyproject.toml for all users, on whatever machine they were generated."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.lock import BUILD_LOCK, CONSTRAINTS, DEV_LOCK, LOCK, OLDEST_PYTHON, build_requirements, constraints

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEARNERS = [Requirement(line) for line in PROJECT["dependencies"]]
DEVELOPERS = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
DIRECT = {LOCK: LEARNERS, DEV_LOCK: [*LEARNERS, *DEVELOPERS]}
"""Direct dependencies of each lock file."""

CODE = [ROOT / "labservices", ROOT / "lab-stack", ROOT / "labkit"]
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
]


def pins(lock: Path) -> dict[str, list[Requirement]]:
    """Return a lock's pins by name; a name has several pins if platforms need different versions."""
    found: dict[str, list[Requirement]] = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
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


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [(lock, requirement) for lock, direct in DIRECT.items() for requirement in direct],
    ids=lambda value: value.name,
)
def test_a_direct_dependency_is_pinned_and_locked(lock: Path, requirement: Requirement) -> None:
    """Each direct dependency is pinned exactly, and the lock has that version for each platform that needs it."""
    assert [spec.operator for spec in requirement.specifier] == ["=="], "direct dependencies are pinned"
    locked = pins(lock).get(canonicalize_name(requirement.name), [])
    for platform in PLATFORMS:
        if applies(requirement, platform):
            assert [version(pin) for pin in locked if applies(pin, platform)] == [version(requirement)], platform


@pytest.mark.parametrize("lock", DIRECT, ids=lambda path: path.name)
def test_every_dependency_of_a_locked_package_is_locked(lock: Path) -> None:
    """Each dependency of a locked package on this platform is locked in a version that satisfies it."""
    locked = {name: pin for name, found in pins(lock).items() for pin in found if applies(pin, {})}
    waiting = [(requirement, "pyproject.toml") for requirement in DIRECT[lock] if applies(requirement, {})]
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
    assert len(seen) > len(DIRECT[lock])


def test_build_requirements_are_locked() -> None:
    """An editable install downloads nothing without a hash: its requirements are locked, in the tests' versions."""
    locked, developers = pins(BUILD_LOCK), pins(DEV_LOCK)
    for requirement in map(Requirement, build_requirements()):
        (pin,) = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version(pin))
    assert all(pin == developers[name] for name, pin in locked.items() if name in developers)


@pytest.mark.parametrize("lock", [*DIRECT, BUILD_LOCK], ids=lambda path: path.name)
def test_every_pin_has_hashes(lock: Path) -> None:
    """Each pin has hashes, so that pip installs only the locked files."""
    blocks = re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8"))[1:]
    assert len(blocks) == sum(len(found) for found in pins(lock).values())
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


@pytest.mark.parametrize("path", [LOCK, DEV_LOCK, BUILD_LOCK, CONSTRAINTS], ids=lambda path: path.name)
def test_lock_contains_no_address_or_path(path: Path) -> None:
    """The lock contains no index, mirror, address or folder of the machine that generated it."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"://|--(?:extra-)?index|--find-links|--trusted-host| @ |file:|(?:^|\s)/\w+", text) == []


def test_constraints_match_the_lock() -> None:
    """The constraints file for conda's pip has all versions of the lock, and no hashes."""
    text = CONSTRAINTS.read_text(encoding="utf-8")
    assert text == constraints(DEV_LOCK.read_text(encoding="utf-8"))
    lines = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    assert lines == [pin for found in pins(DEV_LOCK).values() for pin in found]


def test_learners_and_developers_have_the_same_versions() -> None:
    """Learners install a subset of the packages that the tests run with, at the same versions."""
    learners, developers = pins(LOCK), pins(DEV_LOCK)
    assert learners.keys() < developers.keys()
    versions = {name: {version(pin) for pin in found} for name, found in learners.items()}
    assert versions == {name: {version(pin) for pin in developers[name]} for name in learners}


def test_lab_imports_no_developer_dependencies() -> None:
    """The services, the lab and labkit import only the project, the standard library and learners' packages."""
    modules = metadata.packages_distributions()
    ours = {"labservices", "labstack", "labkit"}
    found = {name for folder in CODE for path in folder.rglob("*.py") for name in imported(path)}
    found -= sys.stdlib_module_names | ours
    assert len(found) > 20
    learners = pins(LOCK).keys()
    names = {name: {canonicalize_name(package) for package in modules.get(name, [name])} for name in found}
    assert {name for name, packages in names.items() if not packages & learners} == set()


def imported(path: Path) -> set[str]:
    """Return the top-level names that a module imports, at any place in its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_lock_is_generated_for_the_oldest_python() -> None:
    """The lock is generated for the oldest Python that the project supports."""
    assert PROJECT["requires-python"] == f">={OLDEST_PYTHON}"
