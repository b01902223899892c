"""Download optional programs while the lab runs: the observers, such as Prometheus, and istiod.

``lab up`` starts a process that downloads them one by one. Each observer joins the running lab; istiod is used from the
next start. The process writes its progress to a file, which ``lab status`` and the notebooks read.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from filelock import FileLock

from labstack.backends.access import LabAccess
from labstack.backends.processes import process
from labstack.config.paths import LabPaths, write_atomically
from labstack.errors import StorageError
from labstack.observability import observers
from labstack.state import LabState
from labstack.waiting import poll_until

RETRY_AFTER = 3600.0
"""Seconds after a failed download before the lab retries it automatically."""

NOTE_INTERVAL = 0.3
"""Seconds between two writes of a download's progress."""

POLL_INTERVAL = 1.0
"""Seconds between two polls of a download while a notebook waits for it."""

Stage = Literal["waiting", "fetching", "there", "failed"]


@dataclass(frozen=True)
class Download:
    """The progress of one program's download.

    Attributes
    ----------
    stage : {'waiting', 'fetching', 'there', 'failed'}
        State of the download.
    note : str
        Progress of the download, or the reason for its failure.
    at : float
        Time of this step, in seconds since 1970.
    """

    stage: Stage
    note: str = ""
    at: float = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the download has succeeded or failed."""
        return self.stage in ("there", "failed")


def missing(paths: LabPaths, state: LabState) -> list[str]:
    """Return the optional programs that the lab does not have, in download order."""
    from labstack.gateway.choice import istiod_is_allowed
    from labstack.install import find_program

    if state.mode != "local":
        return []
    wanted = [*observers.NAMES] if state.observed else []
    if state.control_plane != "istiod" and istiod_is_allowed():
        wanted.append("istiod")
    return [name for name in wanted if not find_program(name, paths)]


def start(access: LabAccess) -> None:
    """Start to download the missing programs, if downloads are enabled.

    A download that failed within the last hour is not retried yet.
    """
    state = access.state()
    if observers.downloads_allowed() and (missing_names := missing(access.paths, state)):
        _begin(access.paths, state.lab_id, missing_names)


def is_running(lab_id: str) -> bool:
    """Return whether the download process of a lab runs."""
    return bool(process.lab_processes(lab_id, process.OBTAINING))


def steps(paths: LabPaths) -> dict[str, Download]:
    """Return the progress of each download by program; empty if no program was ever missing."""
    try:
        recorded = json.loads(_file(paths).read_text(encoding="utf-8"))
        return {name: Download(**step) for name, step in recorded.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@dataclass(frozen=True)
class Absent:
    """The optional programs that the lab does not have.

    Attributes
    ----------
    downloading : dict of str to str
        Progress of each current download by program.
    failed : tuple of str
        The programs whose download failed or was interrupted.
    """

    downloading: dict[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the missing programs as lines of text."""
        waiting = [name for name, progress in self.downloading.items() if not progress]
        lines = [f"{name} is being downloaded: {progress}" for name, progress in self.downloading.items() if progress]
        if waiting:
            lines.append(f"{', '.join(waiting)}: will be downloaded in the background")
        if self.failed:
            lines.append(
                f"without {', '.join(self.failed)} (optional), since the download failed; "
                "`lab install NAME` retries it, shows the reason, and takes minutes if it has to compile the program"
            )
        return lines


def absent(paths: LabPaths, state: LabState) -> Absent:
    """Return the optional programs that the lab does not have. Return at once if no program was ever missing."""
    recorded = {name: step for name, step in steps(paths).items() if step.stage != "there"}
    if not recorded:
        return Absent()
    # The search for the process takes a tenth of a second, so skip it once every download is settled.
    is_downloading = any(not step.is_settled for step in recorded.values()) and is_running(state.lab_id)
    missing_names = missing(paths, state)
    downloading = {
        name: step.note
        for name, step in recorded.items()
        if name in missing_names and is_downloading and not step.is_settled
    }
    return Absent(downloading, tuple(name for name in recorded if name in missing_names and name not in downloading))


def wait_for(
    access: LabAccess, names: Sequence[str], report: Callable[[str], None], timeout: float = 300.0
) -> dict[str, str]:
    """Wait until each program is installed or its download has failed.

    A missing download is started, unless it failed within the last hour.

    Parameters
    ----------
    access : LabAccess
        Access to the running lab, which the programs join.
    names : sequence of str
        Names of the programs.
    report : callable
        Called with a description of the progress whenever it changes.
    timeout : float
        Seconds.

    Returns
    -------
    dict of str to str
        The reason why a program is missing, by program; empty if all are installed.
    """
    state = access.state()
    missing_names = missing(access.paths, state)
    wanted = [name for name in names if name in missing_names]
    if not wanted:
        return {}
    if not observers.downloads_allowed():
        return dict.fromkeys(wanted, "LAB_OBSERVABILITY disables downloads")
    _begin(access.paths, state.lab_id, wanted)
    last_text = ""

    def is_settled() -> bool:
        nonlocal last_text
        now = steps(access.paths)
        text = "; ".join(f"{name}: {now[name].note or now[name].stage}" for name in wanted if name in now)
        if text != last_text:
            report(text)
        last_text = text
        return all(now[name].is_settled for name in wanted if name in now) or not is_running(state.lab_id)

    poll_until(is_settled, timeout, interval=POLL_INTERVAL)
    now, still_missing = steps(access.paths), missing(access.paths, access.state())
    return {name: _reason(now.get(name)) for name in wanted if name in still_missing}


def _reason(step: Download | None) -> str:
    if step is None:
        return "its download has not started"
    if step.is_settled:
        return step.note
    return f"its download is still running ({step.note or step.stage}), and it then joins the lab by itself"


def delete_progress(paths: LabPaths) -> None:
    """Delete the progress file, so that the next start retries every download."""
    _file(paths).unlink(missing_ok=True)


def _failed_recently(step: Download | None) -> bool:
    return step is not None and step.stage == "failed" and time.time() - step.at < RETRY_AFTER


def _file(paths: LabPaths) -> Path:
    return paths.state / "obtaining.json"


def note(paths: LabPaths, changes: dict[str, Download]) -> None:
    """Update the progress of some downloads. If the disk is full, only the update is lost."""
    with contextlib.suppress(StorageError, OSError), _lock(paths):
        recorded = {**steps(paths), **changes}
        write_atomically(_file(paths), json.dumps({name: asdict(step) for name, step in recorded.items()}))


def _lock(paths: LabPaths) -> FileLock:
    """Return the lock that prevents a second download process and concurrent writes to the progress file."""
    return FileLock(paths.state / "obtaining.lock", is_singleton=True)


def _begin(paths: LabPaths, lab_id: str, names: Sequence[str]) -> None:
    """Start the process for the programs whose download has not failed lately, unless the process runs already."""
    with _lock(paths):
        before = steps(paths)
        wanted = [name for name in names if not _failed_recently(before.get(name))]
        if wanted and not is_running(lab_id):
            note(paths, {name: Download("waiting", at=time.time()) for name in wanted})
            _spawn(paths, lab_id, wanted)


def _spawn(paths: LabPaths, lab_id: str, names: Sequence[str]) -> None:
    command = process.Command(
        [sys.executable, "-m", "labstack.cli.obtain", str(paths.state), str(paths.cache), *names],
        cwd=paths.state,
        env=os.environ,  # the lab itself in the background, with the user's settings, proxy and certificates
    )
    process.spawn(command, paths.log(process.OBTAINING), f"{lab_id}/{process.OBTAINING}")
