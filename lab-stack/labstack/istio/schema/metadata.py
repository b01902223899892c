"""Kubernetes' own rules for an object's metadata."""

from __future__ import annotations

import re
from typing import Any

from labstack.istio.documents import Document
from labstack.istio.errors import Problem
from labstack.istio.words import short

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
ANYTHING = {"x-kubernetes-preserve-unknown-fields": True}
METADATA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": {**STRINGS, "nullable": True},
        "annotations": {**STRINGS, "nullable": True},
        # written by a cluster; present in text that is copied from the output of kubectl
        **dict.fromkeys(
            (
                "creationTimestamp",
                "deletionGracePeriodSeconds",
                "deletionTimestamp",
                "finalizers",
                "generateName",
                "generation",
                "managedFields",
                "ownerReferences",
                "resourceVersion",
                "selfLink",
                "uid",
            ),
            ANYTHING,
        ),
    },
}
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(rf"{LABEL.pattern}(\.{LABEL.pattern})*")


def metadata_problems(document: Document) -> list[Problem]:
    """Return the problems of an object's name and namespace."""
    problems = []
    name, namespace = document.name, document.namespace
    if len(name) > 253 or not SUBDOMAIN.fullmatch(name):
        message = f"`{short(name)}` is not a valid name; use lowercase letters, digits, `-` and `.`, as in `order-v2`"
        problems.append(document.problem(("metadata", "name"), message))
    if len(namespace) > 63 or not LABEL.fullmatch(namespace):
        message = (
            f"`{short(namespace)}` is not a valid namespace; use lowercase letters, digits and `-`, as in `default`"
        )
        problems.append(document.problem(("metadata", "namespace"), message))
    return problems
