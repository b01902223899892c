"""Pack files for a running container in the engine's format."""

from __future__ import annotations

import io
import tarfile


def archive(name: str, content: str) -> bytes:
    """Return a tar archive with one file that every user in the container may read."""
    data = content.encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        packed.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
