"""The imports between the modules of labkit, labstack and labservices, and the picture of their packages.

python tools/import_graph.py    # redraws the picture in docs/architecture.md
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = {"labservices": ROOT, "labstack": ROOT / "lab-stack", "labkit": ROOT}
"""The folder of each distribution package, from the lowest to the highest."""

LAYERS: dict[str, dict[str, tuple[str, ...]]] = {
    "labservices": {
        "foundation": ("ids", "contract", "origins", "strict_csv", "datasets", "settings"),
        "events": ("events", "record"),
        "telemetry": ("telemetry",),
        "storage": ("storage",),
        "service": ("service",),
        "messaging": ("messaging",),
        "http": ("http",),
        "order, inventory, payment, shipping": ("order", "inventory", "payment", "shipping"),
        "runtime": ("runtime", "extension"),
        "faults": ("faults", "__main__"),
    },
    "labstack": {
        "foundation": (
            *("errors", "arguments", "waiting", "findings", "progress"),
            *("config", "process_id", "state", "ports"),
        ),
        **{
            name: (name,)
            for name in (
                *("istio", "clients", "install", "gateway", "observability", "backends"),
                *("consistency", "lifecycle", "lab", "scenarios", "jupyter", "cli"),
            )
        },
    },
    "labkit": {
        "foundation": ("errors", "aliases", "waiting", "restarting", "kernel", "status_area", "cluster", "skipping"),
        **{
            name: (name,)
            for name in (
                *("sources", "views", "client", "charts", "inspect", "instructor"),
                *("capstone", "exercises", "build", "session"),
            )
        },
    },
}
"""The packages and modules of each layer, from the lowest layer to the highest."""

Graph = dict[str, set[str]]


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package's modules, by dotted name."""
    files = (FOLDERS[package] / package).rglob("*.py")
    return {
        ".".join(file.relative_to(FOLDERS[package]).with_suffix("").parts).removesuffix(".__init__"): file
        for file in files
    }


def read_imports() -> Graph:
    """Return the modules that each module imports when it runs, also within functions."""
    known = {name: file for package in FOLDERS for name, file in modules(package).items()}
    return {
        name: {other for other in _imports(ast.parse(file.read_text(encoding="utf-8")), known) if other in known}
        for name, file in known.items()
    }


def _imports(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield "labstack.lab" if full == "labstack.Lab" else full if full in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from _imports(node, known)


def layer_of(module: str) -> str | None:
    """Return the layer of a module, such as ``labstack.clients``, or None for a package's own ``__init__``."""
    package, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    return next((f"{package}.{layer}" for layer, names in LAYERS[package].items() if first in names), None)


def layer_graph(imports: Graph) -> Graph:
    """Return the layers that each layer imports."""
    graph: Graph = {f"{package}.{layer}": set() for package, layers in LAYERS.items() for layer in layers}
    for name, others in imports.items():
        for other in others:
            importer, imported = layer_of(name), layer_of(other)
            if importer and imported and importer != imported:
                graph[importer].add(imported)
    return graph


def reachable(graph: Graph, start: str) -> set[str]:
    """Return what one can reach from a node over at least one arrow."""
    found: set[str] = set()
    open_nodes = list(graph[start])
    while open_nodes:
        node = open_nodes.pop()
        if node not in found:
            found.add(node)
            open_nodes.extend(graph[node])
    return found


def reduced(graph: Graph) -> Graph:
    """Return a graph without circles with as few arrows as possible: those that follow from others are left out."""
    return {
        node: {other for other in others if not any(other in reachable(graph, one) for one in others - {other})}
        for node, others in graph.items()
    }


def draw(imports: Graph) -> str:
    """Return the picture of the layers as a Mermaid flowchart."""

    def identifier(layer: str) -> str:
        return re.sub(r"\W+", "_", layer)

    graph = reduced(layer_graph(imports))
    lines = [
        "flowchart TB",
        "    accTitle: The packages and their imports",
        "    accDescr: labkit imports labstack, which imports the foundation of labservices. No arrow leads upwards.",
    ]
    for package in reversed(LAYERS):
        lines.append(f"    subgraph {package}")
        lines += [f'        {identifier(f"{package}.{layer}")}["{layer}"]' for layer in reversed(LAYERS[package])]
        lines.append("    end")
    lines += [f"    {identifier(one)} --> {identifier(other)}" for one in graph for other in sorted(graph[one])]
    return "\n".join(lines)


BLOCK = re.compile(r"(?<=<!-- tools/import_graph.py -->\n\n```mermaid\n).*?(?=\n```)", re.DOTALL)
"""The picture on its page."""

if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda _: draw(read_imports()), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"drew the packages in {PAGE.relative_to(ROOT)}")
