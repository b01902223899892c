"""Names of images, in Docker's syntax.

https://github.com/distribution/reference/blob/main/reference.go
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labstack.config.versions import VERSIONS
from labstack.errors import DownloadFailed
from labstack.install.sources.client import LOCAL_HOSTS

DOCKER_HUB = "docker.io"
"""The default registry, for a name without a registry."""

NAME = re.compile(
    r"(?:(?P<registry>localhost(?::\d+)?|\[[\da-fA-F:]+\](?::\d+)?|[\w-]+(?:\.[\w-]+)+(?::\d+)?|[\w-]+:\d+)/)?"
    r"(?P<repository>[a-z\d]+(?:(?:\.|_{1,2}|-+|/)[a-z\d]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[\da-f]{64}))?"
)


@dataclass(frozen=True)
class ImageName:
    """The parts of an image's name.

    Attributes
    ----------
    registry : str
        Host of the registry, with its port if it has one.
    repository : str
        Path of the repository.
    tag : str
        The tag; ``latest`` by default.
    digest : str
        ``sha256:`` and 64 hexadecimal digits, or empty.
    """

    registry: str
    repository: str
    tag: str = "latest"
    digest: str = ""

    @classmethod
    def of(cls, text: str) -> ImageName:
        """Parse ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``. Raise `DownloadFailed` if it is not valid."""
        found = NAME.fullmatch(text)
        if found is None:
            raise DownloadFailed(
                f"{text!r} is not a valid image name.", next_step="write it as [REGISTRY/]REPOSITORY[:TAG][@DIGEST]"
            )
        registry, repository = found["registry"] or DOCKER_HUB, found["repository"]
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, found["tag"] or "latest", found["digest"] or "")

    @property
    def is_local(self) -> bool:
        """Whether the registry runs on this machine."""
        return re.sub(r":\d+$", "", self.registry).strip("[]") in LOCAL_HOSTS

    @property
    def path(self) -> str:
        """Path of the repository in the registry's API."""
        return f"v2/{self.repository}"

    @property
    def url(self) -> str:
        """URL of the repository in the registry's API."""
        host = VERSIONS["registries"].get(self.registry, self.registry)
        return f"{'http' if self.is_local else 'https'}://{host}/{self.path}"

    def __str__(self) -> str:
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}:{self.tag}{digest}"
