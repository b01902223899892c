"""Storage of the configuration in force: the lab's own from `lab-stack/istio/`, plus the changes applied to it.

The stored file is the source of truth. The input of istiod and Envoy is generated from it at each of their starts. On a
cluster, the objects of the cluster are the source of truth (`labstack.backends.kubernetes.mesh`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import yaml

from labstack.config.paths import ISTIO, LabPaths, write_atomically
from labstack.istio.documents import Document, read

NOT_RESOURCES = ("mesh.yaml",)
"""Files in that folder that do not contain Istio resources."""

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""LibYAML's dumper if available, which is ten times as fast."""

Key = tuple[str, str, str]


def key(document: Document) -> Key:
    """Return the key of a document: kind, namespace and name."""
    return document.kind, document.namespace, document.name


def own_configuration() -> list[Document]:
    """Return the lab's own configuration, as it is at the start of the course."""
    files = sorted(path for path in ISTIO.glob("*.yaml") if path.name not in NOT_RESOURCES)
    return [document for path in files for document in read(path, f"lab-stack/istio/{path.name}")]


def merged(before: Iterable[Document], new: Iterable[Document]) -> list[Document]:
    """Return `before` with each document of `new` in place of the one with the same key, or appended."""
    result = {key(document): document for document in before}
    result.update((key(document), document) for document in new)
    return list(result.values())


def dump(documents: Iterable[Document]) -> str:
    """Return documents as one YAML text."""
    return "---\n".join(yaml.dump(one.data, Dumper=DUMPER, sort_keys=False, width=120) for one in documents)


class ConfigurationStore(Protocol):
    """The storage of the configuration in force."""

    def read(self) -> list[Document]:
        """Return the documents in force."""

    @property
    def is_own(self) -> bool:
        """Whether the lab's own configuration is in force without changes."""

    def write(self, documents: Sequence[Document]) -> None:
        """Save the documents in force."""

    def delete(self) -> None:
        """Delete the saved documents, so that the lab's own configuration is in force."""


class MeshStore:
    """The configuration of one lab.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    """

    def __init__(self, paths: LabPaths) -> None:
        self.file = paths.config("mesh") / "in-force.yaml"

    def read(self) -> list[Document]:
        """Return the documents in force, or the lab's own configuration if no change was applied.

        Raises
        ------
        InvalidYaml
            The file is damaged.
        """
        return read(self.file, str(self.file)) if self.file.exists() else own_configuration()

    @property
    def is_own(self) -> bool:
        """Whether the lab's own configuration is in force without changes."""
        return not self.file.exists()

    def write(self, documents: Sequence[Document]) -> None:
        """Save the documents in force."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, dump(documents))

    def delete(self) -> None:
        """Delete the saved documents, so that the lab's own configuration is in force."""
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
