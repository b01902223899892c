"""Imports point one way, in no circle, and packages stay small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"labservices": ROOT, "labstack": ROOT / "lab-stack", "labkit": ROOT}
LAYERS = (
    *(
        "errors",
        "arguments",
        "waiting",
        "findings",
        "progress",
        "config",
        "process_id",
        "state",
        "ports",
        "istio",
        "clients",
        "install",
        "gateway",
    ),
    *("observability", "backends", "consistency", "lifecycle", "lab", "scenarios", "jupyter", "cli"),
)
"""The layers of `labstack`, from the lowest to the highest."""
MAX_MODULES = 12


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package's modules, by dotted name."""
    files = (FOLDERS[package] / package).rglob("*.py")
    return {
        ".".join(file.relative_to(FOLDERS[package]).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that a module imports when it runs, also within functions."""
    for node in ast.iter_child_nodes(tree):
        if is_for_types(node):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield "labstack.lab" if full == "labstack.Lab" else full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from imports(node, known)


KNOWN = {name: file for package in FOLDERS for name, file in modules(package).items()}
IMPORTS = {
    name: {other for other in imports(ast.parse(file.read_text(encoding="utf-8")), KNOWN) if other in KNOWN}
    for name, file in KNOWN.items()
}


def test_packages_import_one_way() -> None:
    """`labservices` imports neither of the others, and `labstack` does not import `labkit`."""
    order = list(FOLDERS)
    wrong = [
        (name, other)
        for name, others in IMPORTS.items()
        for other in others
        if order.index(other.split(".")[0]) > order.index(name.split(".")[0])
    ]
    assert wrong == []


def test_only_the_contract_of_the_services_is_used() -> None:
    """`labstack` and `labkit` import the contract of the services, their settings, datasets and check of origins."""
    published = {"labservices", *(f"labservices.{name}" for name in ("contract", "settings", "datasets", "origins"))}
    wrong = [
        (name, other)
        for name, others in IMPORTS.items()
        for other in others
        if other.startswith("labservices") and not name.startswith("labservices") and other not in published
    ]
    assert wrong == []


def test_layers_import_downwards() -> None:
    """A module of a layer imports from its own layer and from lower ones."""
    rank = {f"labstack.{layer}": number for number, layer in enumerate(LAYERS)}
    rank["labstack"] = -1
    assert {".".join(name.split(".")[:2]) for name in KNOWN if name.startswith("labstack.")} == set(rank) - {"labstack"}

    def rank_of(name: str) -> int:
        return rank[".".join(name.split(".")[:2])]

    own = {name: {o for o in others if o.startswith("labstack")} for name, others in IMPORTS.items()}
    wrong = [
        (name, other)
        for name, others in own.items()
        for other in others
        if name.startswith("labstack.") and rank_of(other) > rank_of(name)
    ]
    assert wrong == []


def test_istio_imports_nothing_of_the_lab() -> None:
    """The package for Istio imports only itself and the lab's base error, and its model depends only on documents."""
    allowed = {
        "labstack.istio.model": {"labstack.istio.model", "labstack.istio.documents", "labstack.istio.errors"},
        "labstack.istio": {"labstack.istio", "labstack.errors"},
    }
    wrong = [
        (name, other)
        for package, known in allowed.items()
        for name, others in IMPORTS.items()
        for other in others
        if f"{name}.".startswith(f"{package}.") and not any(f"{other}.".startswith(f"{one}.") for one in known)
    ]
    assert wrong == []


def test_there_are_no_circular_imports() -> None:
    """Following imports never leads back to a module."""
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for other in IMPORTS[name]:
                if not name.startswith(f"{other}."):  # a package's `__init__` re-exports its modules
                    follow(other, (*path, name))
            done.add(name)

    for name in IMPORTS:
        follow(name, ())


@pytest.mark.parametrize("package", FOLDERS)
def test_packages_are_small(package: str) -> None:
    """No package has more than a dozen modules beside its `__init__`."""
    counts: dict[str, int] = {}
    for name, file in modules(package).items():
        if file.name != "__init__.py":
            parent = name.rpartition(".")[0]
            counts[parent] = counts.get(parent, 0) + 1
    assert {name: count for name, count in counts.items() if count > MAX_MODULES} == {}
