"""What a registry says of an image: manifests, lists of them, and the parts that they name by digest.

https://github.com/opencontainers/image-spec/blob/main/manifest.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from labstack.install.trouble import Refused

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
"""The media types of lists of platforms, and of images for one platform: OCI's, and Docker's older ones."""


@dataclass(frozen=True)
class Blob:
    """A part of an image, as a manifest names it.

    Attributes
    ----------
    digest : str
        ``sha256:`` and 64 hexadecimal digits.
    size : int
        Bytes.
    media_type : str
        What it says to be.
    """

    digest: str
    size: int
    media_type: str

    @classmethod
    def of(cls, descriptor: Any) -> Blob:
        """Read a descriptor; refused where it isn't one."""
        try:
            blob = cls(str(descriptor["digest"]), int(descriptor["size"]), str(descriptor.get("mediaType", "")))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise Refused(f"A manifest names a part without digest or size: {str(descriptor)[:200]}.") from None
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", blob.digest) or blob.size < 0:
            raise Refused(f"A manifest names a part by {blob.digest[:100]!r}, {blob.size} bytes; a SHA-256 is needed.")
        return blob


@dataclass(frozen=True)
class Manifest:
    """What a registry has under a tag or digest.

    Attributes
    ----------
    digest : str
        Of its bytes as they came.
    media_type : str
        As the registry said it.
    content : dict
        The JSON object.
    """

    digest: str
    media_type: str
    content: dict[str, Any]

    @property
    def is_index(self) -> bool:
        """Whether it lists an image for each platform."""
        return self.media_type in INDEXES

    def parts(self, key: str) -> list[Any]:
        """Return a list of the manifest; refused where it has none."""
        found = self.content.get(key)
        if not isinstance(found, list):
            raise Refused(f"The manifest {self.digest} has no list of {key}.")
        return found
