"""Find, download, verify and prepare the programs of the local backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from labstack.backends.processes.components.postgres import make_template
from labstack.backends.processes.java import jars
from labstack.backends.processes.java.java import find_java
from labstack.backends.processes.java.training import make_archives
from labstack.config.paths import LabPaths
from labstack.errors import LabBusy
from labstack.progress import Progress

LOCK_WAIT = 600.0
"""Seconds to wait for another lab of the same user, which may be downloading programs over a slow network."""


@contextlib.contextmanager
def _programs_locked(paths: LabPaths, progress: Progress) -> Iterator[None]:
    lock = FileLock(paths.cache / "programs.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.report("another lab is preparing the programs; waiting for it")
        try:
            lock.acquire(timeout=LOCK_WAIT)
        except Timeout:
            raise LabBusy(
                f"Another lab has been preparing the programs in {paths.cache} for {LOCK_WAIT:.0f} s.",
                next_step="check whether it still runs; ending its process releases the lock",
            ) from None
    try:
        yield
    finally:
        lock.release()


def prepare_programs(paths: LabPaths, lab_id: str, progress: Progress, *, archives: bool = True) -> None:
    """Ensure that every program is present and verified. Download only missing programs.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab; programs go into its cache, which all labs of one user share.
    lab_id : str
        The lab whose ``down`` stops the processes of an interrupted training run.
    progress : Progress
        Receives the stages and how far the downloads are.
    archives : bool
        Whether to build the class-data archives as well.
    """
    with _programs_locked(paths, progress), progress.stage("programs") as stage:
        java = find_java()
        progress.note(stage, f"Java {java.version}")
        jars.fetch(
            paths.cache,
            lambda done, total: progress.note(stage, f"Kafka and Debezium: {done} of {total} jars"),
        )
        make_template(paths)
    if archives:
        # The archives are optional. While another lab builds them, this one starts without.
        with contextlib.suppress(Timeout), FileLock(paths.cache / "archives.lock").acquire(timeout=0):
            make_archives(paths, lab_id, progress)
