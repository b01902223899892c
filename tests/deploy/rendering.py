"""The chart as Helm renders it, and the check of documents against the schemas."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tools import make_chart
from tools.get_helm import Unavailable
from tools.make_kubernetes_schemas import CORE, FOLDER

SECRET = ("--set", "database.secret=0123456789abcdef")
VARIANTS: dict[str, tuple[str, ...]] = {
    "default": SECRET,
    "small": (*SECRET, "-f", str(make_chart.CHART / "values-small.yaml")),
    "plain": (*SECRET, "-f", str(make_chart.CHART / "values-plain.yaml")),
    "small and plain": (
        *SECRET,
        *(word for name in ("small", "plain") for word in ("-f", str(make_chart.CHART / f"values-{name}.yaml"))),
    ),
    "existing Secrets": ("--set", "database.existingSecrets=true"),
    "no mesh": (*SECRET, "--set", "mesh.enabled=false,networkPolicies.enabled=false"),
    "hpa": (*SECRET, "--set", "autoscaling.kind=hpa,services.canaries.order-v2=1"),
    "keda": (*SECRET, "--set", "autoscaling.kind=keda,autoscaling.lag=7,mesh.revision=stable"),
    "backups": (
        *SECRET,
        *("--set", "database.backup.snapshotClass=fast,database.storage.class=fast,kafka.storage.class=fast"),
        *("--set", "database.restoreFrom.order=order-db-1,images.pullSecrets={mine}"),
    ),
    "other observability": (
        *SECRET,
        *("--set", "tracing.jaeger=false,tracing.endpoint=http://collector.tracing:4318"),
        *("--set", "monitoring.prometheus.enabled=false,monitoring.labels.release=stack"),
    ),
}
"""Values that together reach every template and every branch of it."""

Document = dict[str, Any]


def helm(*arguments: str) -> str:
    """Return what Helm renders; skip the test where there is no Helm."""
    try:
        return make_chart.render(*arguments)
    except Unavailable as reason:
        pytest.skip(f"NOT TESTED: {reason}")


def refusal(*arguments: str) -> str:
    """Return the message with which Helm refuses these values."""
    try:
        helm(*arguments)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    raise AssertionError(f"Helm accepted {' '.join(arguments)}")


@cache
def _documents(variant: str) -> str:
    return json.dumps([found for found in yaml.load_all(helm(*VARIANTS[variant]), yaml.CSafeLoader) if found])


def documents(variant: str = "default") -> list[Document]:
    """Return the documents that a variant renders."""
    found: list[Document] = json.loads(_documents(variant))
    return found


def of_kind(kind: str, variant: str = "default") -> dict[str, Document]:
    """Return the documents of a kind, by name."""
    return {one["metadata"]["name"]: one for one in documents(variant) if one["kind"] == kind}


def pod_templates(variant: str = "default") -> dict[str, Document]:
    """Return the pod template of each workload, by name."""
    found = documents(variant)
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in found
        if "template" in one.get("spec", {}) and one["kind"] in ("Deployment", "StatefulSet", "Job")
    }


@cache
def _schemas() -> dict[str, Document]:
    found: dict[str, Document] = {}
    for file in FOLDER.glob("*.json"):
        entries = json.loads(Path(file).read_text(encoding="utf-8"))
        entries.pop("version")
        if file.name == "kubernetes.json":
            for kind, package in CORE.items():
                reference = {"$ref": f"#/$defs/io.k8s.api.{package}.{kind}", "$defs": entries}
                found[kind] = reference
        else:
            found |= entries
    return found


def problems(document: Document) -> list[str]:
    """Return the problems of a document according to its kind's schema."""
    schemas = _schemas()
    kind, api_version = document["kind"], document["apiVersion"]
    schema = schemas.get(f"{api_version}/{kind}") or schemas.get(
        kind if "." not in api_version.partition("/")[0] or api_version.partition("/")[0].endswith("k8s.io") else ""
    )
    if schema is None:
        return [f"there is no schema of {api_version} {kind}"]
    validator = jsonschema.Draft202012Validator(schema)
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in validator.iter_errors(document)
    ]
