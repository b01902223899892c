"""The page of the Python API for notebooks, made from the docstrings."""

from __future__ import annotations

from pathlib import Path

from tools.book.reference.markdown import join

OPENING = """
# Python

What a notebook works with. `from labkit import begin, wait_until`, then `lab, shop, look, tasks = begin("01")`.
"""
SESSION = "labkit.session.Session"
PARTS = {
    "To begin": ("function", ["labkit.begin", "labkit.wait_until"]),
    "What begin returns": ("class", [SESSION]),
    "lab: start, stop, reset, check": ("class", ["labstack.Lab"]),
    "lab.faults: break it on purpose": ("class", ["labstack.lifecycle.faults.Faults"]),
    "lab.mesh: steer the gateway": ("class", ["labstack.lifecycle.mesh.Mesh"]),
    "lab.extensions.rules: load alerting rules": ("class", ["labstack.lifecycle.rules.Rules"]),
    "shop: order, pay, cancel": ("class", ["labkit.client.shop.Shop", "labkit.client.shop.Order"]),
    "look: inspect the system": ("class", ["labkit.inspect.look.Look"]),
    "look.db: rows": ("class", ["labkit.inspect.databases.Databases"]),
    "look.kafka: records and offsets": ("class", ["labkit.inspect.topics.Topics"]),
    "look.connect: the relay": ("class", ["labkit.inspect.connect.Connectors"]),
    "look.metrics: Prometheus": ("class", ["labkit.inspect.metrics.Metrics"]),
    "look.traces: traces": ("class", ["labkit.inspect.tracing.Traces"]),
    "look.mesh: the gateway": ("class", ["labkit.inspect.mesh.GatewayState"]),
    "tasks: the exercises": ("class", ["labkit.exercises.tasks.Tasks"]),
}
"""The documented objects by section. Sphinx's autodoc reads their docstrings during the build."""


def page(root: Path) -> str:
    """Return the page."""
    parts = []
    for title, (kind, names) in PARTS.items():
        lines = [line for name in names for line in directive(kind, name)]
        parts += [f"## {title}", "\n".join(["```{eval-rst}", *lines, "```"])]
    return join(OPENING, *parts)


def directive(kind: str, name: str) -> list[str]:
    """Return the autodoc directive of one object. A class includes its methods, unless it is a tuple."""
    options = ["   :members:", "   :inherited-members:", "   :member-order: bysource"] if kind == "class" else []
    options = ["   :exclude-members: lab, shop, look, tasks"] if name == SESSION else options
    return [f".. auto{kind}:: {name}", *options, ""]
