"""The folder of files from which Envoy reads its configuration, where the translator steers it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class XdsFolder:
    """One folder.

    Parameters
    ----------
    path : Path
        Where it is.
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
        """Return the file of one route configuration (RDS); Envoy takes only one from a file."""
        readable = "".join(c if c.isalnum() else "-" for c in name)[:60]
        return self.path / f"routes-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
