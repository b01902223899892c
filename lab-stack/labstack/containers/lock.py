"""Resolve the official images to digests, which are recorded for this user and held to from then on.

The registries are asked directly, so it takes no Docker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from labstack.digests import remember_digests
from labstack.errors import LabError
from labstack.install.catalogue import Entry, entry
from labstack.versions import VERSIONS

TABLES = ("images", "programs")
"""The tables of the versions file whose entries may have an image: of container mode, and of ``lab install``."""


@dataclass(frozen=True)
class LockedImage:
    """What a registry said of an image.

    Attributes
    ----------
    image : str
        Repository and tag.
    digest : str
        Of the list of all platforms' images.
    platforms : tuple of str
        As ``os/architecture``.
    """

    image: str
    digest: str
    platforms: tuple[str, ...]


def resolve(image: str) -> LockedImage:
    """Ask an image's registry for its digest and platforms.

    Raises
    ------
    LabError
        The registry does not answer, has no such image, or has none for this machine.
    """
    from labstack.install.from_image import platforms, this_machine
    from labstack.install.registry import Registry

    with Registry(image) as registry:
        top = registry.manifest(registry.image.tag)
        found = LockedImage(image, top.digest, tuple(sorted(platforms(registry, top))))
    if (wanted := f"linux/{this_machine()}") not in found.platforms:
        raise LabError(
            f"{image} is there for {', '.join(found.platforms) or 'no platform'}, not for {wanted}.",
            next_step="name another image in a variable: LAB_IMAGE_NAME or LAB_INSTALL_IMAGE_NAME",
        )
    return found


def lock(versions: Mapping[str, Any] = VERSIONS) -> list[LockedImage]:
    """Resolve every image of the versions file that has no digest there, and record the digests: all, or none.

    Raises
    ------
    LabError
        An image can't be resolved; nothing was recorded.
    """
    entries = [one for table in TABLES for one in versions.get(table, {}).values() if "image" in one]
    return _lock(sorted({one["image"] for one in entries if not one.get("digest")}))


def lock_program(name: str, versions: Mapping[str, Any] = VERSIONS) -> Entry:
    """Read the digest of one program's image from the registry again, record it, and return the program's entry.

    Raises
    ------
    UnknownComponent
        There is no such program.
    LabError
        It has no image, or that can't be resolved. Nothing was recorded.
    """
    found = entry(name, versions)
    where = found.in_image
    if where is None:
        raise LabError(f"{name} has no image to lock.", next_step=f"`lab install {name}` without --lock")
    if where.digest:
        return found
    (locked,) = _lock([where.image])
    return replace(found, in_image=replace(where, digest=locked.digest))


def _lock(images: list[str]) -> list[LockedImage]:
    found = [resolve(image) for image in images]
    remember_digests({one.image: one.digest for one in found})
    return found
