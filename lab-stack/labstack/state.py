"""The state of a lab on disk, so that the lab outlives the process that started it.

Only commands that change the lab take the lock; a command that only reads never waits.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from labstack.config.paths import LabPaths, write_atomically
from labstack.errors import LabBusy, LabError, StorageError
from labstack.process_id import ProcessId

Phase = Literal["stopped", "starting", "incomplete", "ready", "stopping"]
"""``incomplete``: a start has failed, and the components that it has started run."""


NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk, and of a used-up quota."""


@dataclass
class ComponentRecord:
    """The process of one component, and whether the component was stopped on purpose."""

    process: ProcessId | None = None
    stopped_on_purpose: bool = False


@dataclass
class ExtensionRecord:
    """The state of an extension service (see `labstack.lifecycle.extensions`)."""

    host: str
    """The service whose database server also contains this service's database."""
    port: int = 0
    """Port of its metrics; 0 before its first start."""


@dataclass
class LabState:
    """The content of ``state.json``."""

    lab_id: str
    mode: str = "local"
    phase: Phase = "stopped"
    keeper: ProcessId | None = None
    """The process that holds the lock and is changing the lab."""
    ports: dict[str, int] = field(default_factory=dict)
    components: dict[str, ComponentRecord] = field(default_factory=dict)
    switches: dict[str, dict[str, str]] = field(default_factory=dict)
    """Active fault switches and their values, by service."""
    control_plane: str = "translator"
    """Control plane of the gateway: ``istiod``, the lab's ``translator``, or the istiod of the ``cluster``."""
    observed: bool = False
    """Whether the components publish metrics and spans."""
    observers: list[str] = field(default_factory=list)
    """The observers that the lab has."""
    extensions: dict[str, ExtensionRecord] = field(default_factory=dict)
    """Extension services, by name."""
    data_generation: int = 0
    """How many times the data were reset to the course's start."""
    unfinished_reset: bool = False
    """Whether a reset has begun and not ended; if it was interrupted, the next start completes it."""
    records_deleted: float = 0.0
    """When the last reset deleted the records of the topics, in seconds since 1970; 0 if there was none."""

    @property
    def is_up(self) -> bool:
        """Whether the lab was started, at least as far as its ports are chosen, and not shut down since."""
        return self.phase != "stopped" and bool(self.ports)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> LabState:
        raw: dict[str, Any] = json.loads(text)
        raw["keeper"] = ProcessId(**raw["keeper"]) if raw["keeper"] else None
        raw["components"] = {
            name: ComponentRecord(
                ProcessId(**record["process"]) if record["process"] else None, record["stopped_on_purpose"]
            )
            for name, record in raw["components"].items()
        }
        for old, new in (("guests", "extensions"), ("beginnings", "data_generation")):  # of version 0.1
            if old in raw:
                raw[new] = raw.pop(old)
        raw["extensions"] = {name: ExtensionRecord(**record) for name, record in raw.get("extensions", {}).items()}
        return cls(**raw)


class StateStore:
    """The state file of one lab, and the lock that protects it."""

    def __init__(self, paths: LabPaths) -> None:
        self.paths = paths
        self._lock = FileLock(paths.lock_file, thread_local=False)
        # The id depends on the folder only, so it survives the loss of the state file.
        self.lab_id = hashlib.sha256(f"{_user()}:{paths.state.absolute()}".encode()).hexdigest()[:12]

    def read(self) -> LabState:
        """Return the state; a lab that never ran counts as stopped.

        Raises
        ------
        StorageError
            The file can't be read.
        LabError
            The file is damaged.
        """
        path = self.paths.state_file
        try:
            return LabState.from_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return LabState(self.lab_id)
        except OSError as error:
            raise StorageError(
                f"The lab can't read its state file {path}: {error.strerror or error}.",
                next_step="make the file readable, or set HOME or XDG_STATE_HOME to a folder of your own",
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise LabError(
                f"The lab's state file {path} is damaged ({error}).",
                next_step="run `lab down`: it stops the lab's processes, keeps its data, and renames the damaged file",
            ) from error

    def rename_damaged(self) -> None:
        """Rename a damaged state file."""
        with contextlib.suppress(OSError):
            self.paths.state_file.replace(self.paths.state_file.with_suffix(".json.damaged"))

    def write(self, state: LabState) -> None:
        write_atomically(self.paths.state_file, state.to_json())

    @contextlib.contextmanager
    def exclusive(
        self, wait: float = 0, waiting: Callable[[str], None] | None = None, *, for_shutdown: bool = False
    ) -> Iterator[None]:
        """Hold the lock, so that no other process changes this lab. The system releases the lock if its holder exits.

        Parameters
        ----------
        wait : float
            Seconds to wait for another holder.
        waiting : callable, optional
            Called once with a sentence that names the holder, if the lock is held.
        for_shutdown : bool
            Continue without the lock if its file can't be written (a full disk, a read-only folder). A shutdown must
            work there, and no other process can change the lab either.

        Raises
        ------
        LabBusy
            Another process still holds the lock after `wait` seconds.
        StorageError
            The lock file can't be written, and `for_shutdown` is false; or the disk was full in the block.
        """
        try:
            self.paths.make()
        except StorageError:
            if not for_shutdown:
                raise
        try:
            self._lock.acquire(timeout=0)
        except OSError as error:
            if isinstance(error, Timeout):
                self._wait_for_lock(wait, waiting)
            elif not for_shutdown:
                raise StorageError(
                    f"The lab can't lock {self.paths.lock_file}: {error.strerror or error}.",
                    next_step="free some space, or make the folder writable",
                ) from error
        try:
            yield
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise StorageError(
                f"{error.filename or self.paths.state} can't be written: {error.strerror}.",
                next_step="free some space, then run the command again",
            ) from error
        finally:
            self._lock.release()

    def _wait_for_lock(self, wait: float, waiting: Callable[[str], None] | None) -> None:
        holder = self._holder()
        if waiting and wait:
            waiting(f"{holder} is changing this lab; waiting for it to finish")
        try:
            self._lock.acquire(timeout=wait)
        except Timeout:
            raise LabBusy(
                f"{holder} is changing this lab.",
                next_step="wait until it has finished, or stop that process and run `lab down`",
            ) from None

    def _holder(self) -> str:
        with contextlib.suppress(LabError):
            keeper = self.read().keeper
            if keeper and keeper.process():
                return f"Another process (pid {keeper.pid})"
        return "Another process"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def remove_tree(folder: Path) -> None:
    """Remove a folder and its contents; missing files are ignored."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
