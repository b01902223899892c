"""Imports point one way, without cycles, and packages stay small."""

from __future__ import annotations

import pytest

from tools.import_graph import BLOCK, FOLDERS, LAYERS, PAGE, draw, layer_graph, layer_of, modules, read_imports

IMPORTS = read_imports()
MAX_MODULES = 12


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


@pytest.mark.parametrize("package", LAYERS)
def test_layers_import_downwards(package: str) -> None:
    """Each module belongs to a layer of its package, and imports only from its own layer and from lower ones."""
    assert [name for name in modules(package) if name != package and layer_of(name) is None] == []
    rank = [f"{package}.{layer}" for layer in LAYERS[package]]
    wrong = [
        (layer, other)
        for layer, others in layer_graph(IMPORTS).items()
        for other in others
        if layer in rank and other in rank and rank.index(other) > rank.index(layer)
    ]
    assert wrong == []


def test_services_do_not_import_each_other() -> None:
    """The four services share common code only, and know nothing of each other."""
    services = {f"labservices.{name}" for name in LAYERS["labservices"]["order, inventory, payment, shipping"]}
    between = [
        (name, other)
        for name, others in IMPORTS.items()
        for other in others
        if len({".".join(module.split(".")[:2]) for module in (name, other)} & services) == 2
    ]
    assert between == []


def test_the_picture_of_the_packages_is_current() -> None:
    """The picture in the architecture page shows the imports of today; `python tools/import_graph.py` redraws it."""
    found = BLOCK.search(PAGE.read_text(encoding="utf-8"))
    assert found
    assert found[0] == draw(IMPORTS)


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
