"""Port reservations: the ports that the labs of all users on this machine hold.

A port of a stopped component is free for the operating system, but not for another lab: the other components of the
first lab would connect to the wrong one. So each lab records its ports, and the processes that it holds them for, in a
folder that every user can read. A reservation lapses when all its processes are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from labstack.config.paths import temporary_path
from labstack.state import ProcessId

SHARED = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())


class PortReservations:
    """The port reservations of one lab, and a view of those of other labs.

    If the folder can't be used (on a read-only system, for example), there are no reservations. Labs then only avoid
    ports on which a process listens.

    Parameters
    ----------
    lab_id : str
        ID of this lab.
    folder : Path, optional
        Folder of the reservations; default: one folder for the whole machine.
    """

    def __init__(self, lab_id: str, folder: Path = SHARED / "saga-lab-ports") -> None:
        self.folder = folder
        self._file = folder / f"{lab_id}.json"

    @contextlib.contextmanager
    def choosing(self) -> Iterator[set[int]]:
        """Lock out other labs while this one chooses its ports; yield the ports that they hold."""
        with self._locked():
            yield self.held_by_others()

    def held_by_others(self) -> set[int]:
        """Return the ports that other labs hold now."""
        held: set[int] = set()
        for file in self._files():
            ports, processes = _read(file)
            if file == self._file:
                continue
            if any(one.process() for one in processes):
                held |= ports
            else:
                with contextlib.suppress(OSError):  # another user's file stays
                    file.unlink()
        return held

    def _files(self) -> list[Path]:
        try:
            return sorted(self.folder.glob("*.json"))
        except OSError:
            return []

    def reserve(self, ports: Iterable[int], processes: Iterable[ProcessId]) -> None:
        """Reserve these ports for this lab, for as long as one of these processes lives."""
        self._make()
        content = {"ports": sorted(ports), "processes": [[one.pid, one.born] for one in processes]}
        temporary = temporary_path(self._file)
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(content), encoding="utf-8")
            temporary.chmod(0o644)
            os.replace(temporary, self._file)

    def release(self) -> None:
        """Release all ports of this lab; the last lab removes the folder."""
        with contextlib.suppress(OSError):
            self._file.unlink()
        if self.folder.is_dir():
            with self._locked(), contextlib.suppress(OSError):
                self.folder.rmdir()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # Lock the folder itself: not every user can open a file in a shared folder for writing.
        handle = self._open()
        if handle is None:
            yield
            return
        try:
            yield
        finally:
            os.close(handle)

    def _make(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir()
            self.folder.chmod(0o1777)  # like the folder for temporary files

    def _open(self) -> int | None:
        for _ in range(100):
            try:
                self._make()
                handle = os.open(self.folder, os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.path.samestat(os.fstat(handle), self.folder.stat()):
                    return handle
            except FileNotFoundError:
                continue  # the last lab has just removed it
            except OSError:
                return None
            os.close(handle)
        return None


def _read(file: Path) -> tuple[set[int], list[ProcessId]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {int(port) for port in content["ports"]}, [
            ProcessId(int(pid), float(at)) for pid, at in content["processes"]
        ]
    except (OSError, ValueError, LookupError, TypeError, psutil.Error):
        return set(), []
