"""The page of events: topics, types, producers, consumers and fields, from the contracts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tools.book.reference.markdown import anchor, join, table

CONTRACTS = "docs/asyncapi.yaml"


def page(root: Path) -> str:
    """Return the page."""
    contracts = yaml.safe_load((root / CONTRACTS).read_text(encoding="utf-8"))
    schemas = contracts["components"]["schemas"]
    rows = [
        (
            f"`{channel['address']}`",
            f"[{name}](#event-{name.lower()})",
            services(contracts, "send", key, name),
            services(contracts, "receive", key, name),
        )
        for key, channel in contracts["channels"].items()
        for name in channel["messages"]
    ]
    parts = [
        part
        for name, message in contracts["components"]["messages"].items()
        for part in (
            anchor(f"event-{name.lower()}"),
            f"## {name}",
            f"{message['summary']} Key: `order_id`.",
            fields(schemas[name], schemas),
        )
    ]
    shared = [
        part
        for name in sorted(set(schemas) - set(contracts["components"]["messages"]))
        if schemas[name].get("type") == "object"
        for part in (
            anchor(f"schema-{name.lower()}"),
            f"## {name}",
            schemas[name].get("description", ""),
            fields(schemas[name], schemas),
        )
    ]
    return join(
        "# Events",
        contracts["info"]["description"],
        f"Made from the event contracts, `{CONTRACTS}` (AsyncAPI 3), which tests hold against real records.",
        table(["topic", "type", "written by", "heard by"], rows),
        *parts,
        *shared,
    )


def services(contracts: dict[str, Any], action: str, channel: str, message: str) -> str:
    """Return the services that send or receive a message, in the contracts' order."""
    found = [
        match[1]
        for name, operation in contracts["operations"].items()
        if operation["action"] == action and operation["channel"]["$ref"].endswith(f"/{channel}")
        if any(one["$ref"].endswith(f"/{message}") for one in operation["messages"])
        if (match := re.match(r"([a-z]+)(?:Says|Hears)", name))
    ]
    return ", ".join(dict.fromkeys(found))


def fields(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    """Return the table of a schema's fields."""
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`", kind(one), described(one), "yes" if name in required else "no")
        for name, one in schema.get("properties", {}).items()
    ]
    return table(["field", "kind", "", "always there"], rows) if rows else ""


def kind(field: dict[str, Any]) -> str:
    """Return the type of a field as text."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#schema-{name.lower()})"
    if "enum" in field or "const" in field:
        return " or ".join(f"`{word}`" for word in field.get("enum", [field.get("const")]))
    if "anyOf" in field or "oneOf" in field:
        return " or ".join(kind(one) for one in field.get("anyOf") or field["oneOf"])
    if field.get("type") == "array":
        return f"list of {kind(field['items'])}"
    words = str(field.get("type", "anything"))
    return f"{words}, {field['format']}" if "format" in field else words


def described(field: dict[str, Any]) -> str:
    """Return the description, pattern and limits of a field."""
    texts = [field["description"]] if "description" in field else []
    texts += [f"matches `{field['pattern']}`"] if "pattern" in field else []
    limits = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "minItems": "{} or more",
        "minLength": "{} characters or more",
        "maxLength": "at most {} characters",
    }
    texts += [words.format(field[name]) for name, words in limits.items() if name in field]
    return "; ".join(texts)
