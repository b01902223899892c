"""Every error of the project has a next step."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstack.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
COLLECTED = ("install/sources/", "install/store.py", "java/training.py", "lifecycle/starting.py")
"""Files whose errors another error collects into its own message with a next step."""
PROGRAMS = "build/files/"
"""Files that run as programs, with separate settings, and raise no error of the project."""


def raised(file: Path, package: Path) -> Iterator[tuple[int, type[LabError], ast.Call]]:
    """Yield the place, the class and the call of each error of the project that a module raises."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    if not calls:
        return
    module = importlib.import_module(".".join(file.relative_to(package).with_suffix("").parts))
    for call in calls:
        kind = getattr(module, ast.unparse(call.func), None)
        if isinstance(kind, type) and issubclass(kind, LabError):
            yield call.lineno, kind, call


@pytest.mark.parametrize("package", [ROOT / "labkit", ROOT / "lab-stack" / "labstack"], ids=lambda path: path.name)
def test_every_error_has_a_next_step(package: Path) -> None:
    """Every error that is raised names a next step, unless its class defines one."""
    without, count = [], 0
    for file in sorted(package.rglob("*.py")):
        if any(part in file.as_posix() for part in (*COLLECTED, PROGRAMS)):
            continue
        for line, kind, call in raised(file, package.parent):
            count += 1
            has_own = "advice" in vars(kind) or kind.__name__ == "ConditionNotMet"
            if not has_own and not any(word.arg in ("next_step", None) for word in call.keywords):
                without.append(f"{file.relative_to(ROOT)}:{line}: {ast.unparse(call)[:100]}")
    assert without == []
    assert count > 40
