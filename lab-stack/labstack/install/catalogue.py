"""The installable programs and their install sources: the tables ``[programs.NAME]`` of the versions file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from labstack.config.versions import VERSIONS
from labstack.errors import UnknownComponent, one_of


@dataclass(frozen=True)
class OnPath:
    """Rule that accepts a program on PATH.

    Attributes
    ----------
    command : str
        Name of the program on PATH.
    ask : tuple of str
        Arguments that make the program print its version. Empty if it can't.
    accepts : str
        Required version, or a prefix of it up to a dot: ``1.29`` accepts 1.29.1, not 1.290.
    minimum : str
        Oldest accepted version, instead of `accepts`.
    """

    command: str
    ask: tuple[str, ...] = ()
    accepts: str = ""
    minimum: str = ""


@dataclass(frozen=True)
class InImage:
    """A program in its official image.

    Attributes
    ----------
    image : str
        Repository and tag.
    digest : str
        Digest of the index, which lists the images of all platforms. Empty until a registry was queried.
    path : str
        File or folder to unpack from the image.
    """

    image: str
    digest: str
    path: str


@dataclass(frozen=True)
class InArchive:
    """A project's release archive, for Linux and macOS.

    Attributes
    ----------
    url : str
        URL of the archive, with ``{version}``, ``{os}`` (``linux``, ``darwin``) and ``{arch}`` (``amd64``, ``arm64``).
    checksums : str
        URL of the published SHA-256 sums, either of the archive or of its files.
    path : str
        File to unpack, relative to the archive's top-level folder. Empty to unpack the whole folder.
    version : str
        Release to download, if it differs from the entry's version.
    """

    url: str
    checksums: str
    path: str
    version: str = ""


@dataclass(frozen=True)
class InDebian:
    """A package of Debian or of a derived distribution.

    Attributes
    ----------
    package : str
        Name of the package.
    files : tuple of str
        Programs to extract. The package itself is not installed on the machine.
    minimum : str
        Oldest accepted version. Each release of the distribution has its own version.
    """

    package: str
    files: tuple[str, ...]
    minimum: str


@dataclass(frozen=True)
class ByGo:
    """A program that Go builds from source.

    Attributes
    ----------
    kind : {'install', 'build'}
        ``install`` runs ``go install MODULE/PACKAGE@VERSION``. ``build`` runs ``go mod download``, then
        ``go build ./PACKAGE`` in the module's folder; a module with ``replace`` directives in ``go.mod`` needs it.
    module, package, version : str
        Module, package relative to the module (empty for the module itself), and version.
    minimum : str
        Oldest accepted version of Go.
    flags : tuple of str
        Flags for the compiler.
    environment : mapping
        Environment variables, added to the caller's.
    sums : mapping
        Checksum (``h1:...``) by ``MODULE@VERSION``, for the modules that Go's checksum database does not have.
    disk, memory : int
        Peak use of the build in bytes.
    takes : str
        Expected duration of the build, as text for the progress line.
    """

    kind: Literal["install", "build"]
    module: str
    package: str
    version: str
    minimum: str
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, str] = field(default_factory=dict)
    disk: int = 1_000_000_000
    memory: int = 1_000_000_000
    takes: str = "a few minutes"


@dataclass(frozen=True)
class Entry:
    """A program and its install sources.

    Attributes
    ----------
    name, version : str
        Name of the program in the lab, and the version to install.
    program : str
        Executable file, relative to the install folder.
    on_path, in_image, in_archive, in_debian, by_go : optional
        Install sources; `None` for one that does not exist.
    """

    name: str
    version: str
    program: str
    on_path: OnPath | None = None
    in_image: InImage | None = None
    in_archive: InArchive | None = None
    in_debian: InDebian | None = None
    by_go: ByGo | None = None

    def version_from(self, source: str) -> str:
        """Return the version that an install source provides: that of the image's tag, of the archive or of the source.

        From PATH, the version of the first other source is wanted, if `accepts` or `minimum` allows it. Debian's
        version is known only after the download, so the result is empty.
        """
        if source == "image" and self.in_image:
            tag = self.in_image.image.rpartition(":")[2].removeprefix("v")
            return tag if re.fullmatch(r"\d+\.\d+\.\d+", tag) else self.version
        if source == "archive" and self.in_archive:
            return self.in_archive.version or self.version
        if source == "path":
            first = next((one for one in ("image", "archive") if getattr(self, f"in_{one}")), "go")
            return self.version_from(first)
        return "" if source == "debian" else self.version


def names(versions: Mapping[str, Any] = VERSIONS) -> list[str]:
    """Return the names of the installable programs."""
    return sorted(versions.get("programs", {}))


def entry(name: str, versions: Mapping[str, Any] = VERSIONS) -> Entry:
    """Return a program's entry in the versions file.

    An environment variable such as ``LAB_INSTALL_IMAGE_ISTIOD`` names another image, for example on a mirror. The
    digest stays the same, unless the variable contains one.

    Raises
    ------
    UnknownComponent
        If the lab has no such program.
    """
    table = versions.get("programs", {}).get(name)
    if table is None:
        raise UnknownComponent(f"The lab has no program {name!r} to install.", next_step=one_of(name, names(versions)))
    path, archive, debian, go = (table.get(source) for source in ("on_path", "archive", "debian", "go"))
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
    image, at, digest = (os.environ.get(f"LAB_INSTALL_IMAGE_{name.upper()}") or table["image"]).partition("@")
    return InImage(image, digest if at else table.get("digest", ""), table["path"])
