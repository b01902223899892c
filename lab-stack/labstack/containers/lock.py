"""Resolve the official images to digests, and hold that each is there for both kinds of machines."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from labstack.containers.engine import engine, speaking_plainly
from labstack.errors import LabError
from labstack.paths import CONFIG, write_atomically

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
    """

    name: str
    image: str
    digest: str
    platforms: tuple[str, ...]

    @property
    def lacks(self) -> list[str]:
        """Those of `PLATFORMS` that it isn't there for."""
        return [platform for platform in PLATFORMS if platform not in self.platforms]


def resolve(name: str, image: str) -> LockedImage:
    """Ask the image's registry for its digest and platforms.

    Raises
    ------
    LabError
        The registry does not answer, or has no such image.
    """
    with speaking_plainly(f"the registry of {image} can't be asked"):
        data = engine().images.get_registry_data(image)
    platforms = {f"{p['os']}/{p['architecture']}" for p in data.attrs["Platforms"]}
    return LockedImage(name, image, data.id, tuple(sorted(platforms)))


def lock(file: Path = CONFIG / "versions.toml") -> list[LockedImage]:
    """Resolve every image of the versions file, and write the digests there; all of them, or none.

    Raises
    ------
    LabError
        An image can't be resolved, or isn't there for every platform; nothing was written.
    """
    text = file.read_text(encoding="utf-8")
    found = [resolve(name, entry["image"]) for name, entry in tomllib.loads(text)["images"].items()]
    if lacking := [one for one in found if one.lacks]:
        what = "; ".join(f"{one.image} is not there for {', '.join(one.lacks)}" for one in lacking)
        raise LabError(
            f"Nothing was locked: {what}.",
            next_step=f"name images in {file.name} that are there for both, then try again",
        )
    for one in found:
        text = with_digest(text, one)
    write_atomically(file, text)
    return found


def with_digest(text: str, image: LockedImage) -> str:
    """Return the versions file's text with the digest and platforms of one image in it; all else stays as it is."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(rf"\[images\.{re.escape(image.name)}\]", line))
    end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    kept = [line for line in lines[start:end] if not re.match(r"(digest|platforms)\s*=", line)]
    at = next(i for i, line in enumerate(kept) if re.match(r"image\s*=", line)) + 1
    platforms = ", ".join(f'"{platform}"' for platform in image.platforms)
    kept[at:at] = [f'digest = "{image.digest}"', f"platforms = [{platforms}]"]
    return "\n".join([*lines[:start], *kept, *lines[end:]]) + "\n"
