"""The bundled schemas, and the places where each field name occurs in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

KINDS = ("DestinationRule", "Gateway", "ServiceEntry", "VirtualService")
Schema = dict[str, Any]


@cache
def load_schemas() -> dict[str, Any]:
    """Return all generated data."""
    data: dict[str, Any] = json.loads(files(__package__).joinpath("networking.json").read_text(encoding="utf-8"))
    return data


def source_info() -> dict[str, str]:
    """Return the origin of the schemas: module, version, licence, and the script that generated them."""
    return dict(load_schemas()["about"])


def api_versions(kind: str) -> list[str]:
    """Return the apiVersions in which `kind` is served, such as ``networking.istio.io/v1``."""
    data = load_schemas()
    return [f"{data['group']}/{version}" for version in data["kinds"][kind]["versions"]]


def schema_of(kind: str) -> Schema:
    """Return the schema of a kind."""
    found: Schema = load_schemas()["kinds"][kind]["schema"]
    return found


def nodes(schema: Schema, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Yield each node of a schema with its path. ``[]`` stands for a list's items, ``*`` for a map's values."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], (*path, "[]"))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], (*path, "*"))


@cache
def valid_paths(kind: str) -> dict[str, list[tuple[str, ...]]]:
    """Return, for each field name, the paths of the mappings to which it belongs."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for path, schema in nodes(schema_of(kind)):
        for name in schema.get("properties", {}):
            found.setdefault(name, []).append(path)
    return found


def written(path: tuple[str, ...]) -> str:
    """Return a schema path in readable form: ``spec.http[].route[]``."""
    return ".".join(path).replace(".[]", "[]") or "the document"
