"""Resolve the official images to digests, and record them for this user. Later pulls use the recorded digests.

The lab queries the registries directly, without Docker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labstack.config.digests import remember_digests
from labstack.config.versions import VERSIONS
from labstack.errors import LabError
from labstack.install.catalogue import Entry, entry

TABLES = ("images", "programs")
"""Tables of the versions file whose entries may have an image: the container backend's, and ``lab install``'s."""


@dataclass(frozen=True)
class LockedImage:
    """An image with its digest and platforms, as reported by its registry.

    Attributes
    ----------
    image : str
        Repository and tag.
    digest : str
        Digest of the index, which lists the images of all platforms.
    platforms : tuple of str
        Platforms as ``os/architecture``.
    """

    image: str
    digest: str
    platforms: tuple[str, ...]


def resolve(image: str) -> LockedImage:
    """Query an image's registry for its digest and platforms.

    Raises
    ------
    LabError
        If the registry does not answer, has no such image, or has none for this machine.
    """
    from labstack.install.sources.from_image import platforms, this_machine
    from labstack.install.sources.registry import Registry

    with Registry(image) as registry:
        top = registry.manifest(registry.image.tag)
        found = LockedImage(image, top.digest, tuple(sorted(platforms(registry, top))))
    if (wanted := f"linux/{this_machine()}") not in found.platforms:
        raise LabError(
            f"{image} is available for {', '.join(found.platforms) or 'no platform'}, not for {wanted}.",
            next_step="set the environment variable LAB_IMAGE_NAME or LAB_INSTALL_IMAGE_NAME to another image",
        )
    return found


def lock(versions: Mapping[str, Any] = VERSIONS) -> list[LockedImage]:
    """Resolve every image without a digest in the versions file, and record all digests or none.

    Raises
    ------
    LabError
        If an image can't be resolved. No digest is recorded then.
    """
    entries = [one for table in TABLES for one in versions.get(table, {}).values() if "image" in one]
    return _lock(sorted({one["image"] for one in entries if not one.get("digest")}))


def lock_program(name: str, versions: Mapping[str, Any] = VERSIONS) -> Entry:
    """Query the digest of one program's image again, record it, and return the program's entry.

    Raises
    ------
    UnknownComponent
        If the lab has no such program.
    LabError
        If the program has no image, or the image can't be resolved. No digest is recorded then.
    """
    found = entry(name, versions)
    where = found.in_image
    if where is None:
        raise LabError(f"{name} has no image to lock.", next_step=f"run `lab install {name}` without --lock")
    if where.digest:
        return found
    (locked,) = _lock([where.image])
    return replace(found, in_image=replace(where, digest=locked.digest))


def _lock(images: list[str]) -> list[LockedImage]:
    found = [resolve(image) for image in images]
    remember_digests({one.image: one.digest for one in found})
    return found
