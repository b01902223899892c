"""Validation of a document against the schema of its kind, as in Kubernetes.

The walk is implemented here instead of using a JSON Schema library. Custom resources use only a small part of JSON
Schema, and a learner needs more than "not valid under any of the given schemas": which of two fields to remove, how
YAML interpreted `yes`, where a misplaced field belongs. The tests compare the result with that of `jsonschema`.
"""

from __future__ import annotations

from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.schema.data import KINDS, api_versions, load_schemas, schema_of
from labstack.istio.schema.metadata import METADATA, metadata_problems
from labstack.istio.schema.walk import Walk
from labstack.istio.words import did_you_mean, listed, short

TOP_LEVEL = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": METADATA}
STATUS = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def check_schema(document: Document) -> list[Problem]:
    """Return the problems of a document according to the schema of its kind, sorted by line.

    The check accepts fields that Istio supports and the lab's translator doesn't. It does not check references to other
    objects.
    """
    if wrong := _kind_problem(document):
        return [wrong]
    schema = schema_of(document.kind)
    whole = {**schema, "properties": {**TOP_LEVEL, **schema["properties"], "status": STATUS}}
    whole["required"] = ["spec"]
    walk = Walk(document)
    walk.value(whole, document.data, ())
    return sorted(walk.problems + metadata_problems(document), key=lambda problem: problem.line)


def _kind_problem(document: Document) -> Problem | None:
    kind, version = document.kind, document.api_version
    group = load_schemas()["group"]
    if kind not in KINDS:
        known = f"it supports {listed(KINDS)} of {group}"
        return document.problem(
            ("kind",),
            f"the lab's mesh does not support the kind `{short(kind)}`{did_you_mean(kind, KINDS)}; {known}",
        )
    if version not in api_versions(kind):
        meant = did_you_mean(version, api_versions(kind))
        return document.problem(
            ("apiVersion",),
            f"{kind} has no version `{short(version)}`{meant}; expected one of {listed(api_versions(kind))}",
        )
    return None
