"""Store installed programs atomically, with a record of their SHA-256 sums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labstack.config.paths import LabPaths, has_sha256, writable_folder
from labstack.errors import LabBusy, StorageError
from labstack.install.catalogue import Entry
from labstack.state import remove_tree

RECORD = "record.json"
FILES = "files"
PARTIAL = ".growing-"
"""Name prefix of folders that are incomplete or obsolete."""

LOCK_WAIT = 3600.0
"""Seconds to wait for another install of the same program, which may be a build on a slow machine."""


@dataclass(frozen=True)
class Program:
    """A program that can be started.

    Attributes
    ----------
    name, version : str
        Name in the lab, and version.
    path : Path
        Path of the executable file.
    source : str
        Install source: ``path``, ``image``, ``archive``, ``debian`` or ``go``.
    origin : str
        The image by digest, the archive's URL, the package or module by version, or the path on PATH.
    sha256 : str
        SHA-256 of the file. Empty for a program on PATH, which the lab does not own.
    """

    name: str
    version: str
    path: Path
    source: str
    origin: str
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


class Store:
    """Store of one program, in the cache that all labs of a user share.

    Parameters
    ----------
    wanted : Entry
        The program.
    paths : LabPaths
        Folders of the lab, among them the cache.
    """

    def __init__(self, wanted: Entry, paths: LabPaths) -> None:
        self.entry = wanted
        self.home = paths.cache / "programs" / wanted.name
        self.folder = self.home / wanted.version

    @property
    def downloads(self) -> Path:
        """Folder for layers during their download."""
        return self.home / "downloads"

    @property
    def build(self) -> Path:
        """Folder of Go builds."""
        return self.home / "build"

    def find(self) -> Program | None:
        """Return the installed program if its file has the recorded size and time. The content is not read."""
        record = self._record()
        if record is None:
            return None
        try:
            path = self.folder / FILES / self.entry.program
            file_record = record["files"][self.entry.program]
            status = path.stat()
            if (status.st_size, status.st_mtime_ns) != (file_record["size"], file_record["mtime_ns"]) or not os.access(
                path, os.X_OK
            ):
                return None
            return Program(
                self.entry.name, record["version"], path, record["source"], record["origin"], file_record["sha256"]
            )
        except (OSError, LookupError, TypeError):
            return None

    def damaged(self) -> list[str]:
        """Return the installed files whose content differs from the record. Every file is read."""
        record = self._record()
        if record is None:
            return [RECORD]
        try:
            file_records: dict[str, dict[str, Any]] = record["files"]
            return [
                name
                for name, file_record in file_records.items()
                if not has_sha256(self.folder / FILES / name, file_record["sha256"])
            ]
        except (LookupError, TypeError, AttributeError):
            return [RECORD]

    def _record(self) -> dict[str, Any] | None:
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a temporary folder on the store's file system. It is removed at the end, unless `put` has moved it."""
        folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=writable_folder(self.home)))
        try:
            yield folder
        finally:
            remove_tree(folder)

    def put(self, content: Path, source: str, origin: str, version: str = "") -> Program:
        """Install the content of a folder atomically, and replace a previous install.

        Parameters
        ----------
        content : Path
            Folder with the program's files.
        source, origin : str
            See `Program`.
        version : str
            Installed version. Empty for the version of the entry.

        Raises
        ------
        StorageError
            If the disk is full or the folder can't be written.
        """
        with _storing(self.home), tempfile.TemporaryDirectory(prefix=PARTIAL, dir=self.home) as temporary:
            complete = Path(temporary) / "whole"
            complete.mkdir()
            os.rename(content, complete / FILES)
            files = {str(path.relative_to(complete / FILES)): _file_record(path) for path in _files(complete / FILES)}
            record = {
                "name": self.entry.name,
                "version": version or self.entry.version,
                "source": source,
                "origin": origin,
                "installed": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "files": files,
            }
            with (complete / RECORD).open("w", encoding="utf-8") as file:
                json.dump(record, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            for folder in (
                complete,
                *(path for path in complete.rglob("*") if path.is_dir() and not path.is_symlink()),
            ):
                _sync(folder)
            if self.folder.exists():
                os.rename(self.folder, Path(temporary) / "before")
            os.rename(complete, self.folder)
            _sync(self.home)
        program = self.find()
        assert program is not None, f"{self.folder} was just written"
        return program

    def sweep(self) -> None:
        """Remove the leftovers of a killed install. Call this only while holding the lock."""
        for leftover in self.home.glob(f"{PARTIAL}*"):
            remove_tree(leftover)

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of this program, so that no other install of it runs.

        Raises
        ------
        LabBusy
            If another install does not finish within `LOCK_WAIT` seconds.
        """
        lock = FileLock(writable_folder(self.home) / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting(f"another lab is installing {self.entry.name}; waiting for it")
            try:
                lock.acquire(timeout=LOCK_WAIT)
            except Timeout:
                raise LabBusy(
                    f"Another lab has been installing {self.entry.name} for {LOCK_WAIT / 60:.0f} minutes.",
                    next_step="check whether it still runs; ending its process releases the lock",
                ) from None
        try:
            self.sweep()
            yield
        finally:
            lock.release()


@contextlib.contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"The lab can't write to {folder}: {error.strerror or error}.",
            next_step="free some space, or point XDG_CACHE_HOME to a folder that you can write",
        ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _file_record(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    status = path.stat()
    return {"sha256": sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
