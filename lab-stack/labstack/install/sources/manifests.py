"""Manifests and indexes of an image, and the blobs that they name by digest.

https://github.com/opencontainers/image-spec/blob/main/manifest.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from labstack.install.errors import VerificationFailed

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
"""Media types of indexes (one image per platform) and of manifests (one platform): OCI's, and Docker's older ones."""


@dataclass(frozen=True)
class Blob:
    """A blob of an image, as named in a manifest.

    Attributes
    ----------
    digest : str
        ``sha256:`` and 64 hexadecimal digits.
    size : int
        Size in bytes.
    media_type : str
        Declared media type.
    """

    digest: str
    size: int
    media_type: str

    @classmethod
    def of(cls, descriptor: Any) -> Blob:
        """Parse a descriptor. Raise `VerificationFailed` if it is invalid."""
        try:
            blob = cls(str(descriptor["digest"]), int(descriptor["size"]), str(descriptor.get("mediaType", "")))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise VerificationFailed(
                f"A manifest has a descriptor without digest or size: {str(descriptor)[:200]}."
            ) from None
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", blob.digest) or blob.size < 0:
            raise VerificationFailed(
                f"A manifest has an invalid descriptor: digest {blob.digest[:100]!r}, size {blob.size} bytes; "
                "a SHA-256 digest is needed."
            )
        return blob


@dataclass(frozen=True)
class Manifest:
    """A manifest or index that a registry returns for a tag or digest.

    Attributes
    ----------
    digest : str
        Digest of the received bytes.
    media_type : str
        Media type, as reported by the registry.
    content : dict
        The JSON object.
    """

    digest: str
    media_type: str
    content: dict[str, Any]

    @property
    def is_index(self) -> bool:
        """Whether this is an index, which lists an image for each platform."""
        return self.media_type in INDEXES

    def parts(self, key: str) -> list[Any]:
        """Return the list `key` of the manifest. Raise `VerificationFailed` if it is missing."""
        found = self.content.get(key)
        if not isinstance(found, list):
            raise VerificationFailed(f"The manifest {self.digest} has no list of {key}.")
        return found
