"""Resolve the official images to digests, and hold that each is there for both kinds of machines.

The registries are asked directly, so it takes no Docker.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from labstack.errors import LabError
from labstack.install.catalogue import Entry, entry
from labstack.paths import CONFIG, write_atomically

VERSIONS_FILE = CONFIG / "versions.toml"
TABLES = ("images", "programs")
"""The tables of the versions file whose entries may have an image: of container mode, and of ``lab install``."""

PLATFORMS = ("linux/amd64", "linux/arm64")
"""What an image must be there for: Intel and AMD; Apple silicon and ARM servers."""


@dataclass(frozen=True)
class LockedImage:
    """What a registry said of an image.

    Attributes
    ----------
    name : str
        Of the versions file.
    image : str
        Repository and tag.
    digest : str
        Of the list of all platforms' images.
    platforms : tuple of str
        As ``os/architecture``.
    table : str
        Of the versions file.
    """

    name: str
    image: str
    digest: str
    platforms: tuple[str, ...]
    table: str = "images"

    @property
    def lacks(self) -> list[str]:
        """Those of `PLATFORMS` that it isn't there for."""
        return [platform for platform in PLATFORMS if platform not in self.platforms]


def resolve(name: str, image: str, table: str = "images") -> LockedImage:
    """Ask the image's registry for its digest and platforms.

    Raises
    ------
    LabError
        The registry does not answer, or has no such image.
    """
    from labstack.install.from_image import platforms
    from labstack.install.registry import Registry

    with Registry(image) as registry:
        top = registry.manifest(registry.image.tag)
        return LockedImage(name, image, top.digest, tuple(sorted(platforms(registry, top))), table)


def lock(file: Path = VERSIONS_FILE) -> list[LockedImage]:
    """Resolve every image of the versions file, and write the digests there; all of them, or none.

    Raises
    ------
    LabError
        An image can't be resolved, or isn't there for every platform; nothing was written.
    """
    versions = tomllib.loads(file.read_text(encoding="utf-8"))
    return _lock(file, [(t, n, e["image"]) for t in TABLES for n, e in versions.get(t, {}).items() if "image" in e])


def lock_program(name: str, file: Path = VERSIONS_FILE) -> Entry:
    """Resolve the image of one program of ``lab install``, write its digest, and return what the file says of it now.

    Raises
    ------
    UnknownComponent
        There is no such program.
    LabError
        It has no image; or that can't be resolved, or isn't there for every platform. Nothing was written.
    """
    where = entry(name, tomllib.loads(file.read_text(encoding="utf-8"))).in_image
    if where is None:
        raise LabError(f"{name} has no image to lock.", next_step=f"`lab install {name}` without --lock")
    _lock(file, [("programs", name, where.image)])
    return entry(name, tomllib.loads(file.read_text(encoding="utf-8")))


def _lock(file: Path, wanted: list[tuple[str, str, str]]) -> list[LockedImage]:
    found = [resolve(name, image, table) for table, name, image in wanted]
    if lacking := [one for one in found if one.lacks]:
        what = "; ".join(f"{one.image} is not there for {', '.join(one.lacks)}" for one in lacking)
        raise LabError(
            f"Nothing was locked: {what}.",
            next_step=f"name images in {file.name} that are there for both, then try again",
        )
    text = file.read_text(encoding="utf-8")
    for one in found:
        text = with_digest(text, one)
    write_atomically(file, text)
    return found


def with_digest(text: str, image: LockedImage) -> str:
    """Return the versions file's text with the digest and platforms of one image in it; all else stays as it is."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"\[{image.table}\.{re.escape(image.name)}\]", line))
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    kept = [line for line in lines[start:end] if not re.match(r"(digest|platforms)\s*=", line)]
    at = next(i for i, line in enumerate(kept) if re.match(r"image\s*=", line)) + 1
    platforms = ", ".join(f'"{platform}"' for platform in image.platforms)
    kept[at:at] = [f'digest = "{image.digest}"', f"platforms = [{platforms}]"]
    return "\n".join([*lines[:start], *kept, *lines[end:]]) + "\n"
