"""Port reservations: the ports that the labs of this user hold on this machine.

A port of a stopped component is free for the operating system, but not for another lab: the other components of the
first lab would connect to the wrong one. So each lab records its ports, and the processes that it holds them for, in a
folder that all labs of the user share, whatever their ``HOME`` is. A reservation lapses when its processes have ended.

The folder lies among the temporary files of all users. It is used only if it belongs to this user, and only this user
can open it. Labs of different users avoid only ports on which a process listens.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from labstack.config.paths import temporary_path
from labstack.process_id import ProcessId
from labstack.waiting import poll_until

MACHINE = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())
"""The folder for temporary files: ``/tmp`` where it exists, so that all processes share it, whatever ``TMPDIR`` is."""

LOCK_SECONDS = 10.0
"""Seconds to wait while another lab chooses its ports, which usually takes a few milliseconds."""

MAX_BYTES = 64 * 1024
"""Largest size of a reservation's file; a larger one counts as damaged."""

MAX_PORTS = 1000
"""Largest number of ports of one lab; a reservation of more counts as damaged."""


def _shared_folder() -> Path:
    return MACHINE / f"saga-lab-ports-{os.geteuid()}"


def _ignore(message: str) -> None:
    pass


class PortReservations:
    """The port reservations of one lab, and a view of those of other labs.

    If the folder can't be used (on a read-only system, or because it belongs to another user), there are no
    reservations. Labs then only avoid ports on which a process listens.

    Parameters
    ----------
    lab_id : str
        ID of this lab.
    folder : Path, optional
        Folder of the reservations; default: one folder for all labs of this user.
    """

    def __init__(self, lab_id: str, folder: Path | None = None) -> None:
        self.folder = folder or _shared_folder()
        self._file = self.folder / f"{lab_id}.json"

    @contextlib.contextmanager
    def choosing(self, report: Callable[[str], None] = _ignore) -> Iterator[set[int]]:
        """Lock out other labs while this one chooses its ports; yield the ports that they hold.

        Parameters
        ----------
        report : callable, optional
            Called with a sentence if another lab holds the lock, or if the folder can't be used.
        """
        with self._locked(report):
            yield self.held_by_others()

    def held_by_others(self) -> set[int]:
        """Return the ports that other labs hold now."""
        held: set[int] = set()
        with self._opened() as folder:
            if folder is None:
                return held
            for name in self._names(folder):
                ports, processes = _read(name, folder)
                if any(one.process() for one in processes):
                    held |= ports
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=folder)
        return held

    def _names(self, folder: int) -> list[str]:
        """Return the files of the other labs."""
        return sorted(name for name in os.listdir(folder) if name.endswith(".json") and name != self._file.name)

    def reserve(self, ports: Iterable[int], processes: Iterable[ProcessId]) -> None:
        """Reserve these ports for this lab, for as long as one of these processes lives."""
        content = {"ports": sorted(ports), "processes": [[one.pid, one.born] for one in processes]}
        temporary = temporary_path(self._file)
        with self._opened() as folder, contextlib.suppress(OSError):
            if folder is not None:
                temporary.write_text(json.dumps(content), encoding="utf-8")
                os.replace(temporary, self._file)

    def release(self) -> None:
        """Release all ports of this lab; the last lab removes the folder."""
        if not self.folder.is_dir():
            return
        with self._locked() as folder, contextlib.suppress(OSError):
            if folder is not None:
                self._file.unlink(missing_ok=True)
                self.folder.rmdir()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int | None]:
        """Open the folder, and create it if it is missing; None if it can't be used."""
        folder = None
        try:
            with contextlib.suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            if os.fstat(folder).st_uid == os.geteuid():
                os.fchmod(folder, 0o700)
            else:
                os.close(folder)
                folder = None
        except OSError:
            pass
        try:
            yield folder
        finally:
            if folder is not None:
                os.close(folder)

    @contextlib.contextmanager
    def _locked(self, report: Callable[[str], None] = _ignore) -> Iterator[int | None]:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                folder = stack.enter_context(self._opened())
                if folder is None:
                    report(f"The lab can't use {self.folder}, so other labs don't see its ports. Remove that folder.")
                    break
                self._lock(folder, report)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(folder), self.folder.stat()):
                        break
                stack.close()  # the last lab has just removed it
            yield folder

    def _lock(self, folder: int, report: Callable[[str], None]) -> None:
        def is_locked() -> bool:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            return True

        if is_locked():
            return
        report(f"Another lab is choosing its ports; waiting up to {LOCK_SECONDS:g} s.")
        if not poll_until(is_locked, LOCK_SECONDS):
            report(f"Another lab has held {self.folder} for {LOCK_SECONDS:g} s; this lab chooses its ports without it.")


def _read(name: str, folder: int) -> tuple[set[int], list[ProcessId]]:
    """Return the ports and the processes of a reservation; none if the file is damaged."""
    try:
        # Opening a FIFO would otherwise wait for its writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return set(), []
            text = os.read(file, MAX_BYTES + 1)
        finally:
            os.close(file)
        content = json.loads(text) if len(text) <= MAX_BYTES else {}
        ports = {int(port) for port in content["ports"][:MAX_PORTS]}
        return ports, [ProcessId(int(pid), float(born)) for pid, born in content["processes"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return set(), []
