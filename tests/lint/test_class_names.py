"""A class name has one meaning in the whole project."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARALLEL = (
    r"lab-stack/labstack/backends/.*(component|components)(/.*)?\.py",
    r"labservices/(order|inventory|payment|shipping)/.*\.py",
)
"""Files with classes of the same name on purpose: a component in each backend, and the same part of each service."""
SHARED = {
    "BrokerUnavailable": "the same failure, as a service and as the lab sees it",
    "Database": "a service's access to its database, and the component",
    "Order": "an order in the service's API, and at its customer",
    "OrderLine": "a line of an order in the datasets, and in the API",
    "Outcome": "of handling a record, and of trying the learner's code",
    "Page": "of a collection, and of a live view",
    "Product": "in the datasets, and in the API",
    "Record": "a Kafka record, as a service and as the lab reads it",
    "Service": "a service, and its component in both backends",
}
"""Names that two classes share, and why no reader confuses them."""


def test_a_class_name_has_one_meaning() -> None:
    """Two public classes have the same name only if they stand for the same thing in two places."""
    places: dict[str, set[str]] = {}
    for folder in ("labservices", "lab-stack/labstack", "labkit"):
        for file in (ROOT / folder).rglob("*.py"):
            path = file.relative_to(ROOT).as_posix()
            if path.startswith("labkit/build/files/"):  # what learners write
                continue
            group = next((one for one in PARALLEL if re.fullmatch(one, path)), path)
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, set()).add(group)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED} == {}
    assert sorted(name for name in SHARED if len(places.get(name, ())) < 2) == [], "no longer shared"
