"""Unpack one file or folder from an image's layers, and reject harmful entries.

https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from labstack.errors import StorageError
from labstack.install.errors import VerificationFailed

GZIPPED = ("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.docker.image.rootfs.diff.tar.gzip")
PLAIN = ("application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar")
LARGEST_UNPACKED = 4 << 30
"""Maximum size of a decompressed layer in bytes: above the images to install, below a decompression bomb."""

LARGEST_HEADER = 1 << 20
"""Maximum size in bytes of an extended header, which tarfile holds in memory."""

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


class Unpacking:
    """Extract a file or folder from layers, which are passed from the top down.

    An upper layer hides entries that it replaces or removes in lower layers. So a single file needs no layer below its
    own.

    Parameters
    ----------
    path : str
        Path of the file or folder in the image. A file keeps its name in `target`. A folder's content goes to `target`
        itself.
    target : Path
        An empty folder.
    largest : int
        Maximum size of a decompressed layer in bytes.
    """

    def __init__(self, path: str, target: Path, largest: int = LARGEST_UNPACKED) -> None:
        self.wanted = PurePosixPath(path.strip("/"))
        self.target = target
        self.complete = False
        self._largest = largest
        self._is_file = False
        self._extracted: set[PurePosixPath] = set()
        self._hidden: set[PurePosixPath] = set()  # these paths, and everything below them
        self._emptied: set[PurePosixPath] = set()  # everything below these paths

    def layer(self, file: Path, media_type: str) -> None:
        """Unpack the wanted entries of a verified layer.

        Parameters
        ----------
        file : Path
            The layer. Its SHA-256 must have been checked.
        media_type : str
            Media type of the layer.

        Raises
        ------
        VerificationFailed
            If the layer is damaged, too large, of an unsupported media type, or contains harmful entries.
        StorageError
            If the disk is full.
        """
        if media_type.endswith("zstd"):
            raise VerificationFailed(
                f"The layer {file.name} is compressed with zstd ({media_type}), which the lab does not support."
            )
        if media_type not in (*GZIPPED, *PLAIN):
            raise VerificationFailed(f"The layer {file.name} has an unsupported media type: {media_type[:100]!r}.")
        hidden, emptied, extracted = set(self._hidden), set(self._emptied), set(self._extracted)
        try:
            with _reading(file, media_type in GZIPPED, self._largest) as archive:
                for member in archive:
                    archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header in memory
                    self._process_member(archive, member, hidden, emptied, extracted)
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise VerificationFailed(f"The layer {file.name} can't be unpacked: {error}.") from error
        except OSError as error:
            raise StorageError(
                f"The lab can't unpack to {self.target}: {error.strerror or error}.", next_step="free some space"
            ) from error
        self._hidden, self._emptied, self._extracted = hidden, emptied, extracted
        self.complete = self._is_file or _is_hidden(self.wanted, hidden, emptied) or self.wanted in emptied

    def _process_member(
        self,
        archive: tarfile.TarFile,
        member: tarfile.TarInfo,
        hidden: set[PurePosixPath],
        emptied: set[PurePosixPath],
        extracted: set[PurePosixPath],
    ) -> None:
        name = _name(member.name)
        if name.name.startswith(WHITEOUT):
            if name.name == OPAQUE:
                emptied.add(name.parent)
            elif not name.name.startswith(WHITEOUT * 2):
                hidden.add(name.parent / name.name.removeprefix(WHITEOUT))
            return
        if name in self.wanted.parents and not member.isdir():
            hidden.add(name)  # a link or file replaces a parent folder, which hides its content in lower layers
        if name != self.wanted and self.wanted not in name.parents:
            return
        if name in self._extracted or _is_hidden(name, self._hidden, self._emptied):
            return
        if name == self.wanted and not (member.isdir() or member.isreg()):
            raise VerificationFailed(f"{name} of the image is {_kind(member)}, neither a file nor a folder.")
        if not member.isdir():
            hidden.add(name)
        extracted.add(name)
        self._unpack(archive, member, name)

    def _unpack(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: PurePosixPath) -> None:
        if name == self.wanted and member.isreg():
            self._is_file = True
            destination = self.target / name.name
        else:
            destination = self.target / name.relative_to(self.wanted)
        self._make_parents(destination, name)
        if member.isdir():
            if destination.is_symlink() or not destination.is_dir():
                destination.unlink(missing_ok=True)
                destination.mkdir(mode=0o755)
            return
        if destination.is_dir() and not destination.is_symlink():
            raise VerificationFailed(f"{name} of the image is both a folder and {_kind(member)} in one layer.")
        destination.unlink(missing_ok=True)
        if member.issym():
            os.symlink(self._symlink_target(member.linkname, name), destination)
        elif member.islnk():
            os.link(self._hard_link_target(member.linkname, name), destination, follow_symlinks=False)
        elif member.isreg() and not member.issparse():
            content = archive.extractfile(member)
            assert content is not None
            with content, destination.open("xb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            # No set-user-ID bits; only the owner may write.
            destination.chmod(0o755 if member.mode & 0o111 else 0o644)
        else:
            raise VerificationFailed(
                f"{name} of the image is {_kind(member)}; only files, folders and links are unpacked."
            )

    def _make_parents(self, destination: Path, name: PurePosixPath) -> None:
        folder = self.target
        for part in destination.relative_to(self.target).parts[:-1]:
            folder = folder / part
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise VerificationFailed(f"{name} of the image has a parent that is not a folder.")
            folder.mkdir(exist_ok=True, mode=0o755)

    def _symlink_target(self, link: str, name: PurePosixPath) -> str:
        """Return the target of a symbolic link, or raise if it could lead out of the tree.

        A target may go up first, at most to the top of the tree, and then only down. Such a target stays in the tree
        regardless of other links.
        """
        parts = PurePosixPath(link).parts
        up = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
        depth = len(name.relative_to(self.wanted).parts) - 1
        if not parts or link.startswith("/") or ".." in parts[up:] or up > depth:
            raise VerificationFailed(
                f"{name} of the image is a link to a target outside the unpacked tree: {link[:200]!r}."
            )
        return link

    def _hard_link_target(self, link: str, name: PurePosixPath) -> Path:
        source = _name(link)
        if self.wanted not in source.parents:
            raise VerificationFailed(
                f"{name} of the image is a hard link to a file outside the unpacked tree: {link[:200]!r}."
            )
        destination = self.target / source.relative_to(self.wanted)
        for folder in (destination, *destination.parents):
            if folder == self.target:
                break
            if folder.is_symlink():
                raise VerificationFailed(
                    f"{name} of the image is a hard link to a path with a symbolic link: {link[:200]!r}."
                )
        if not destination.is_file():
            raise VerificationFailed(f"{name} of the image is a hard link to a missing file: {link[:200]!r}.")
        return destination


def _name(raw: str) -> PurePosixPath:
    """Return an entry's path relative to the image's root.

    Some builders, such as Istio's, write names with a leading slash. Every container runtime resolves these against the
    image's root, never the machine's.
    """
    name = PurePosixPath(raw.lstrip("/"))
    if ".." in name.parts or "\0" in raw:
        raise VerificationFailed(f"A layer has a name that leads out of the image: {raw[:200]!r}.")
    return name


def _is_hidden(name: PurePosixPath, hidden: set[PurePosixPath], emptied: set[PurePosixPath]) -> bool:
    return not hidden.isdisjoint((name, *name.parents)) or not emptied.isdisjoint(name.parents)


def _kind(member: tarfile.TarInfo) -> str:
    kinds = {
        tarfile.SYMTYPE: "a symbolic link",
        tarfile.LNKTYPE: "a hard link",
        tarfile.CHRTYPE: "a device",
        tarfile.BLKTYPE: "a device",
        tarfile.FIFOTYPE: "a pipe",
    }
    return "a sparse file" if member.issparse() else kinds.get(member.type, f"an entry of type {member.type!r}")


class Header(tarfile.TarInfo):
    """A tar header. tarfile reads extended headers into memory, so their size is limited."""

    @classmethod
    def frombuf(cls, *arguments: Any, **keywords: Any) -> Header:
        header: Header = super().frombuf(*arguments, **keywords)
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
        if header.type in (*extended, tarfile.GNUTYPE_LONGLINK) and header.size > LARGEST_HEADER:
            raise VerificationFailed(f"A layer has a header of {header.size} bytes, which is too large.")
        return header


class _Bounded(io.RawIOBase):
    """Read another stream, and raise `VerificationFailed` after a maximum number of bytes."""

    def __init__(self, source: BinaryIO | gzip.GzipFile, largest: int) -> None:
        self._source, self._left, self._largest = source, largest, largest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._source.read(len(buffer))
        self._left -= len(piece)
        if self._left < 0:
            raise VerificationFailed(f"A layer is larger than {self._largest / 1e6:.0f} MB once it is unpacked.")
        buffer[: len(piece)] = piece
        return len(piece)


@contextlib.contextmanager
def _reading(file: Path, gzipped: bool, largest: int) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        packed = stack.enter_context(file.open("rb"))
        plain = stack.enter_context(gzip.GzipFile(fileobj=packed)) if gzipped else packed
        bounded = io.BufferedReader(_Bounded(plain, largest), 1 << 18)
        yield stack.enter_context(tarfile.open(fileobj=bounded, mode="r|", tarinfo=Header))
