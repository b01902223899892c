"""Parsing of documents into configurations for the translator, or into an error that lists every problem."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh, Problem, Unsupported
from labstack.istio.model.configs import OLDEST, Config, Configs, Path, by_kind
from labstack.istio.translate.reading.shapes import LABELS_SHAPE, Reader
from labstack.istio.translate.reading.supported import API_VERSIONS, KINDS
from labstack.istio.words import did_you_mean, listed

# Fields that a cluster writes have no effect, except the creation time, which is istiod's first sort key.
METADATA = {
    *("name", "namespace", "labels", "annotations", "creationTimestamp", "uid", "resourceVersion", "generation"),
    *("managedFields", "selfLink", "ownerReferences", "finalizers", "generateName"),
}
TOP_LEVEL = {"apiVersion", "kind", "metadata", "spec", "status"}
# These annotations and labels change istiod's output. All others have no effect.
STEERING_ANNOTATIONS = ("internal.istio.io/", "networking.istio.io/", "proxy.istio.io/")
STEERING_LABELS = ("istio.io/persistent-session", "istio.io/persistent-session-header")


def read_configs(documents: Sequence[Document]) -> tuple[Configs, list[Problem]]:
    """Return the objects of documents from oldest to newest, and a warning for each that replaces an earlier one.

    Raises
    ------
    Unsupported
        The translator doesn't support a kind or field. The error lists each with its line.
    InvalidMesh
        istiod couldn't read a value, such as a text where a number is expected.
    """
    invalid: list[Problem] = []
    unsupported: list[Problem] = []
    latest: dict[tuple[str, str, str], Config] = {}
    warnings: list[Problem] = []
    for document in documents:
        reader = Reader(document)
        config = _read(document, reader)
        invalid += reader.invalid
        unsupported += reader.unsupported
        if config is None:
            continue
        key = (document.kind, config.namespace, config.name)
        if key in latest:
            message = f"duplicate {document.kind}; istiod uses only the last one"
            warnings.append(document.problem(("metadata", "name"), message))
        latest[key] = config
    if unsupported:
        raise Unsupported(
            "The lab's translator does not support all of this configuration.",
            problems=unsupported,
            next_step="remove the listed fields, or use istiod as the control plane (`lab install istiod`)",
        )
    if invalid:
        raise InvalidMesh("The configuration has invalid values.", problems=invalid, next_step="fix the listed lines")
    return by_kind(sorted(latest.values(), key=lambda each: each.age)), warnings


def _read(document: Document, reader: Reader) -> Config | None:
    def refuse(path: Path, message: str) -> None:
        reader.unsupported.append(document.problem(path, message))

    if document.kind not in KINDS:
        refuse(
            ("kind",),
            f"the translator does not support the kind `{document.kind}`{did_you_mean(document.kind, KINDS)}; "
            f"it supports {listed(KINDS)}",
        )
        return None
    if document.api_version not in API_VERSIONS:
        refuse(("apiVersion",), f"expected one of {listed(sorted(API_VERSIONS))}, found `{document.api_version}`")
        return None
    for name in document.data.keys() - TOP_LEVEL:
        refuse((name,), f"the translator does not support the field `{name}` here{did_you_mean(name, TOP_LEVEL)}")
    metadata = document.data["metadata"]
    for name in metadata.keys() - METADATA:
        refuse(
            ("metadata", name), f"the translator does not support the field `{name}` here{did_you_mean(name, METADATA)}"
        )
    for kind, steering in (("annotations", STEERING_ANNOTATIONS), ("labels", STEERING_LABELS)):
        for name in LABELS_SHAPE.read(metadata.get(kind) or {}, ("metadata", kind), reader) or {}:
            if name.startswith(steering):
                refuse(
                    ("metadata", kind, name), f"the translator does not support `{name}`, which changes istiod's output"
                )
    spec = KINDS[document.kind].read(document.data.get("spec") or {}, ("spec",), reader)
    if spec is None:
        return None
    return Config(document, spec, dict(metadata.get("labels") or {}), _created(document, reader))


def _created(document: Document, reader: Reader) -> datetime:
    written = document.data["metadata"].get("creationTimestamp")
    if written is None:
        return OLDEST
    try:
        moment = datetime.fromisoformat(str(written))
    except ValueError:
        reader.refuse(("metadata", "creationTimestamp"), "a time such as 2026-01-02T03:04:05Z", written)
        return OLDEST
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
