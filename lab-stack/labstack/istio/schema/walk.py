"""Traversal of a value in parallel with its schema."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from labstack.istio import durations
from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.schema.data import Schema, valid_paths, written
from labstack.istio.schema.rules import check_of
from labstack.istio.words import closest, likeness, listed, seen, short

Path = tuple[str | int, ...]

EXAMPLES = {
    "array": "a list (each item starts with `- `)",
    "boolean": "true or false",
    "integer": "an integer such as 80",
    "number": "a number such as 0.5",
    "object": "a mapping of fields",
    "string": "a string",
}
TYPES: dict[str, type | tuple[type, ...]] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
    "string": str,
}


class Walk:
    """Collects the problems of one document.

    Parameters
    ----------
    document : Document
        The document, which provides the line numbers.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def add(self, path: Path, message: str) -> None:
        """Record a problem at the field `path`."""
        problem = self.document.problem(path, message)
        if problem not in self.problems[-4:]:
            self.problems.append(problem)

    def value(self, schema: Schema, value: Any, path: Path) -> None:
        """Record the problems of `value` at `path`."""
        if value is None and schema.get("nullable"):
            return
        expected = schema.get("type")
        if expected and not self._has_type(schema, expected, value, path):
            return
        before = len(self.problems)
        if isinstance(value, dict):
            self._mapping(schema, value, path)
        elif isinstance(value, list):
            self._list(schema, value, path)
        elif isinstance(value, str):
            self._text(schema, value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self._number(schema, value, path)
        if len(self.problems) == before:  # rules apply to values with valid fields
            for rule in schema.get("x-kubernetes-validations", ()):
                for inner, message in check_of(rule["rule"])(value):
                    self.add((*path, *inner), message)

    def _has_type(self, schema: Schema, expected: str, value: Any, path: Path) -> bool:
        right = isinstance(value, TYPES[expected]) and (expected == "boolean") == isinstance(value, bool)
        if right:
            return True
        hint = EXAMPLES[expected]
        if is_duration(schema, path):
            hint = f"a duration such as {durations.EXAMPLES}"
        elif "enum" in schema:
            hint = f"one of {listed(schema['enum'])}"
        elif expected == "string" and isinstance(value, bool):
            hint += " in quotes (YAML reads y, n, yes, no, on and off without quotes as booleans)"
        elif expected == "string" and isinstance(value, int | float):
            hint += f' in quotes ("{value}")'
        elif expected in {"integer", "number", "boolean"} and isinstance(value, str):
            hint += " without quotes" if _is_number(value) or value in {"true", "false"} else ""
        elif expected == "array" and isinstance(value, str):
            hint = f'a list such as ["{short(value, 30)}"]'
        elif expected == "object" and isinstance(value, list):
            hint += " (remove the `- `)"
        elif expected == "object" and schema.get("properties"):
            hint += f" ({listed(schema['properties'], 12)})"
        if value is None:
            self.add(path, f"is empty; expected {hint}; set a value, or omit the field")
        else:
            self.add(path, f"expected {hint}, found {seen(value)}")
        return False

    def _mapping(self, schema: Schema, value: dict[str, Any], path: Path) -> None:
        properties = schema.get("properties")
        meant = set()
        if properties is not None:
            unknown = [name for name in value if name not in properties]
            meant = {self._unknown(properties, name, value, path) for name in unknown}
            for name, inner in properties.items():
                if name in value:
                    self.value(inner, value[name], (*path, name))
        elif isinstance(schema.get("additionalProperties"), dict):
            for name, item in value.items():
                self.value(schema["additionalProperties"], item, (*path, name))
        for name in schema.get("required", ()):
            if name not in value and name not in meant:
                example = EXAMPLES.get((properties or {}).get(name, {}).get("type", ""), "")
                self.add((*path, name), f"is missing; {f'expected {example}' if example else 'it is required'}")
        if len(value) > schema.get("maxProperties", len(value)):
            self.add(path, f"the mapping has {len(value)} entries; the maximum is {schema['maxProperties']}")
        for part in [schema, *schema.get("allOf", ())]:
            self._one_of(part, value, path)

    def _unknown(self, properties: Schema, name: str, value: dict[str, Any], path: Path) -> str | None:
        free = [field for field in properties if field not in value]
        meant = closest(name, free) or closest(name, properties)
        other_paths = valid_paths(self.document.kind).get(name, [])
        hint = f" (did you mean `{meant}`?)" if meant else ""
        if other_paths and (meant is None or likeness(name, meant) < 0.85):
            here = tuple("[]" if isinstance(part, int) else part for part in path)
            closest_name = max(other_paths, key=lambda home: (_shared(home, here), -len(home)))
            hint += f"; `{name}` belongs in {written(closest_name)}"
        allowed = f"; allowed here: {listed(sorted(properties), 40)}" if properties else "; no field is allowed here"
        self.add((*path, name), f"unknown field{hint}{allowed}")
        return meant

    def _one_of(self, schema: Schema, value: dict[str, Any], path: Path) -> None:
        names = alternatives(schema)
        present = [name for name in value if name in names]
        if len(present) > 1:
            both = "both" if len(present) == 2 else "all of"
            together = " and ".join(f"`{name}`" for name in present)
            self.add((*path, present[-1]), f"{both} {together} are set; only one of {listed(names)} is allowed")

    def _list(self, schema: Schema, value: list[Any], path: Path) -> None:
        for index, item in enumerate(value):
            self.value(schema.get("items", {}), item, (*path, index))
        if len(value) < schema.get("minItems", 0):
            self.add(path, f"the list has {len(value)} items; the minimum is {schema['minItems']}")
        if len(value) > schema.get("maxItems", len(value)):
            self.add(path, f"the list has {len(value)} items; the maximum is {schema['maxItems']}")
        keys = schema.get("x-kubernetes-list-map-keys")
        if keys:
            first: dict[tuple[str, ...], int] = {}
            for index, item in enumerate(value):
                if not isinstance(item, dict):
                    continue
                key = tuple(str(item.get(name)) for name in keys)
                if key in first:
                    line = self.document.line(*path, first[key])
                    self.add(
                        (*path, index, keys[0]),
                        f"`{short(key[0])}` occurs twice in this list; the first is on line {line}",
                    )
                first.setdefault(key, index)

    def _text(self, schema: Schema, value: str, path: Path) -> None:
        allowed = schema.get("enum")
        if allowed and value not in allowed:
            meant = closest(value, allowed, 0.6)
            hint = f" (did you mean `{meant}`?)" if meant else ""
            self.add(path, f"expected one of {listed(allowed)}, found {seen(value)}{hint}")
        if len(value) > schema.get("maxLength", len(value)):
            self.add(path, f"the string has {len(value)} characters; the maximum is {schema['maxLength']}")
        if is_duration(schema, path) and durations.nanoseconds(value) is None:
            self.add(path, f"expected a duration such as {durations.EXAMPLES}, found {seen(value)}")
        if schema.get("format") == "byte":
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                self.add(path, f"expected base64, found {seen(value)}; plain text belongs in `string`")

    def _number(self, schema: Schema, value: float, path: Path) -> None:
        least, most = schema.get("minimum"), schema.get("maximum")
        if schema.get("format") == "int32":
            least, most = (-(2**31) if least is None else least), (2**31 - 1 if most is None else most)
        if (least is not None and value < least) or (most is not None and value > most):
            bounds = f"from {least} to {most}" if least is not None and most is not None else f"at least {least}"
            if least is None:
                bounds = f"at most {most}"
            self.add(path, f"expected a number {bounds}, found {seen(value)}")


def alternatives(schema: Schema) -> list[str]:
    """Return the fields of which a schema's ``oneOf`` allows at most one."""
    return [part["required"][0] for part in schema.get("oneOf", ()) if "required" in part]


def is_duration(schema: Schema, path: Path) -> bool:
    """Report whether a text is a duration: by its rule, or by its name for the two fields without a rule."""
    rules = schema.get("x-kubernetes-validations", ())
    return any("duration(self)" in rule["rule"] for rule in rules) or (
        schema.get("type") == "string"
        and len(path) > 1
        and path[-2:] in {("tcp", "idleTimeout"), ("httpCookie", "ttl")}
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count
