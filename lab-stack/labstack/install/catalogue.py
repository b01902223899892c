"""What can be installed, and how: the tables ``[programs.NAME]`` of the versions file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labstack.errors import UnknownComponent, one_of
from labstack.versions import VERSIONS


@dataclass(frozen=True)
class OnPath:
    """How a program that is already on this machine is known to be the right one.

    Attributes
    ----------
    command : str
        Its name on PATH.
    ask : tuple of str
        Arguments that make it print its version; none where it can't.
    accepts : str
        The version that it must print, or the beginning of one, up to a dot: ``1.29`` takes 1.29.1, not 1.290.
    minimum : str
        Instead, the oldest that will do.
    """

    command: str
    ask: tuple[str, ...] = ()
    accepts: str = ""
    minimum: str = ""


@dataclass(frozen=True)
class InImage:
    """Where a program lies in its official image.

    Attributes
    ----------
    image : str
        Repository and tag.
    digest : str
        Of the list of all platforms' images, as a registry said it; empty until one was asked.
    path : str
        The file or folder of the image that is unpacked.
    """

    image: str
    digest: str
    path: str


@dataclass(frozen=True)
class InArchive:
    """The archive that a project releases, for Linux and macOS.

    Attributes
    ----------
    url : str
        Of the archive, with ``{version}``, ``{os}`` (``linux``, ``darwin``) and ``{arch}`` (``amd64``, ``arm64``).
    checksums : str
        URL of the published SHA-256 sums, of the archive or of the files in it.
    path : str
        The file that is unpacked, relative to the archive's one folder; empty for that folder itself.
    version : str
        Which release, where it is another one than the entry's version.
    """

    url: str
    checksums: str
    path: str
    version: str = ""


@dataclass(frozen=True)
class InDebian:
    """A package of Debian, or of what descends from it.

    Attributes
    ----------
    package : str
        Its name.
    files : tuple of str
        The programs that are taken out of it; nothing of it is installed on the machine.
    minimum : str
        The oldest version that will do; each release has its own.
    """

    package: str
    files: tuple[str, ...]
    minimum: str


@dataclass(frozen=True)
class ByGo:
    """How Go builds a program.

    Attributes
    ----------
    kind : {'install', 'build'}
        ``go install MODULE/PACKAGE@VERSION``; or ``go mod download``, then ``go build ./PACKAGE`` in the module's
        folder, as a module needs whose ``go.mod`` replaces others.
    module, package, version : str
        The package is relative to the module; empty for the module itself.
    minimum : str
        The oldest Go that will do.
    flags : tuple of str
        For the compiler.
    environment : mapping
        Added to the caller's.
    disk, memory : int
        Bytes that the build takes at its peak.
    takes : str
        How long, and of what, for whoever waits.
    """

    kind: Literal["install", "build"]
    module: str
    package: str
    version: str
    minimum: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    disk: int = 1_000_000_000
    memory: int = 1_000_000_000
    takes: str = "some minutes"


@dataclass(frozen=True)
class Entry:
    """One program, and the ways to it that there are.

    Attributes
    ----------
    name, version : str
        What it is called in the lab, and which one is installed.
    program : str
        The file that is started, relative to the folder that an install makes.
    on_path, in_image, in_archive, in_debian, by_go : optional
        The ways; `None` where there is none.
    """

    name: str
    version: str
    program: str
    on_path: OnPath | None = None
    in_image: InImage | None = None
    in_archive: InArchive | None = None
    in_debian: InDebian | None = None
    by_go: ByGo | None = None


def names(versions: Mapping[str, Any] = VERSIONS) -> list[str]:
    """Return the names of what can be installed."""
    return sorted(versions.get("programs", {}))


def entry(name: str, versions: Mapping[str, Any] = VERSIONS) -> Entry:
    """Return what the versions file says of a program.

    ``LAB_INSTALL_IMAGE_ISTIOD`` and so on name another image, such as a mirror's; the digest stays, unless the variable
    has one.

    Raises
    ------
    UnknownComponent
        There is no such program.
    """
    table = versions.get("programs", {}).get(name)
    if table is None:
        raise UnknownComponent(f"The lab has no program {name!r} to install.", next_step=one_of(name, names(versions)))
    path, archive, debian, go = (table.get(way) for way in ("on_path", "archive", "debian", "go"))
    return Entry(
        name=name,
        version=table["version"],
        program=table["program"],
        on_path=OnPath(**{**path, "ask": tuple(path.get("ask", ()))}) if path else None,
        in_image=_in_image(name, table) if "image" in table else None,
        in_archive=InArchive(**archive) if archive else None,
        in_debian=InDebian(**{**debian, "files": tuple(debian["files"])}) if debian else None,
        by_go=ByGo(**{**go, "flags": tuple(go.get("flags", ()))}) if go else None,
    )


def _in_image(name: str, table: Mapping[str, str]) -> InImage:
    image, at, digest = os.environ.get(f"LAB_INSTALL_IMAGE_{name.upper()}", table["image"]).partition("@")
    return InImage(image, digest if at else table.get("digest", ""), table["path"])
