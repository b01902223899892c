"""Which configuration is in force: the lab's own, from `lab-stack/istio/`, and what was applied over it.

This is the truth, on disk. What istiod or Envoy read is made from it, and made anew at each of their starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

import yaml

from labstack.mesh.documents import Document, read
from labstack.paths import CONFIG, LabPaths, write_atomically

ISTIO = CONFIG / "istio"
NOT_RESOURCES = ("mesh.yaml",)
"""Files of that folder that hold no Istio resources."""

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""LibYAML's where it is there, which is ten times as fast."""

Key = tuple[str, str, str]


def key(document: Document) -> Key:
    """Return what names a document: kind, namespace and name."""
    return document.kind, document.namespace, document.name


def own_configuration() -> list[Document]:
    """Return the lab's own configuration, as it is at the course's start."""
    files = sorted(path for path in ISTIO.glob("*.yaml") if path.name not in NOT_RESOURCES)
    return [document for path in files for document in read(path, f"lab-stack/istio/{path.name}")]


def merged(before: Iterable[Document], new: Iterable[Document]) -> list[Document]:
    """Return `before` with each of `new` in the place of the one of its name, or behind all."""
    result = {key(document): document for document in before}
    result.update((key(document), document) for document in new)
    return list(result.values())


def dump(documents: Iterable[Document]) -> str:
    """Return documents as one YAML text."""
    return "---\n".join(yaml.dump(one.data, Dumper=DUMPER, sort_keys=False, width=120) for one in documents)


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
        """Return what is in force; the lab's own where nothing was ever applied.

        Raises
        ------
        InvalidYaml
            Somebody has damaged the file.
        """
        return read(self.file, str(self.file)) if self.file.exists() else own_configuration()

    @property
    def is_own(self) -> bool:
        """Whether nothing was applied over the lab's own configuration."""
        return not self.file.exists()

    def write(self, documents: Sequence[Document]) -> None:
        """Write down what is in force."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file, dump(documents))

    def forget(self) -> None:
        """Go back to the lab's own configuration."""
        with contextlib.suppress(FileNotFoundError):
            self.file.unlink()
