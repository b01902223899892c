"""The folder from which Envoy reads its configuration if the translator is the control plane."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class XdsFolder:
    """A folder of configuration files.

    Parameters
    ----------
    path : Path
        Path of the folder.
    """

    path: Path

    @property
    def clusters(self) -> Path:
        """The file of all clusters (CDS)."""
        return self.path / "clusters.json"

    @property
    def listeners(self) -> Path:
        """The file of all listeners (LDS)."""
        return self.path / "listeners.json"

    def routes(self, name: str) -> Path:
        """Return the file of one route configuration (RDS). Envoy accepts only one per file."""
        readable = "".join(c if c.isalnum() else "-" for c in name)[:60]
        return self.path / f"routes-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
