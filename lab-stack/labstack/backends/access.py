"""Access to one lab: each operation gets one snapshot of the lab's state, and changes hold the lab's lock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from labstack.backends.base import Backend
from labstack.backends.processes.backend import LocalBackend
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry
from labstack.errors import LabError, NotRunning
from labstack.process_id import this_process
from labstack.state import LabState, StateStore

LOCK_WAIT = 180.0
"""Seconds that a verb waits for another process that is changing the same lab."""


class LabAccess:
    """Access to the state and the components of one lab.

    An operation reads the state file once. A change holds the lab's lock, so that its snapshot stays current; all
    operations within that change share its snapshot.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    services : tuple of ServiceEntry
        Services of the lab.
    wanted_mode : str, optional
        Requested backend of the next start: ``local``, ``containers``, ``kubernetes`` or ``auto``; default
        ``LAB_MODE``.
    """

    def __init__(self, paths: LabPaths, services: tuple[ServiceEntry, ...], wanted_mode: str | None = None) -> None:
        self.paths = paths
        self.services = services
        self.wanted_mode = wanted_mode
        self.store = StateStore(paths)
        self._current: Backend | None = None
        self._depth = 0
        self._depth_lock = threading.Lock()

    # -- reading ---------------------------------------------------------------------------------------------------

    def state(self) -> LabState:
        """Return a snapshot of the lab's state."""
        current = self._current
        return current.state if current else self.store.read()

    def backend(self) -> Backend:
        """Return the lab's components, with a snapshot of its state."""
        return self._current or self._open(self.store.read())

    def running(self) -> Backend:
        """Return the components of a lab that was started and not shut down since.

        Raises
        ------
        NotRunning
            The lab was never started, or was shut down.
        """
        backend = self.backend()
        if not backend.state.is_up:
            raise NotRunning("The lab is not running.", next_step="run `lab up`")
        return backend

    def _open(self, state: LabState) -> Backend:
        if state.mode == "containers":
            # Docker's client takes a while to import.
            from labstack.backends.docker.backend import ContainerBackend

            return ContainerBackend(self.paths, self.store, self.services, state)
        if state.mode == "kubernetes":
            from labstack.backends.kubernetes.backend import KubernetesBackend

            return KubernetesBackend(self.paths, self.store, self.services, state)
        return LocalBackend(self.paths, self.store, self.services, state)

    # -- changing --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(
        self, waiting: Callable[[str], None] | None = None, *, for_shutdown: bool = False
    ) -> Iterator[Backend]:
        """Lock this lab against changes by other processes for the duration of the block; reentrant.

        Parameters
        ----------
        waiting : callable, optional
            Called once with a sentence that names the holder, if the lab is locked.
        for_shutdown : bool
            Continue without the lock if the disk is full, and with an empty state if the state file is damaged.

        Yields
        ------
        Backend
            The lab's components, with the snapshot that this change updates.

        Raises
        ------
        LabBusy
            Another process is changing the lab for too long.
        """
        with self.store.exclusive(LOCK_WAIT, waiting, for_shutdown=for_shutdown):
            with self._depth_lock:
                if self._current is None:
                    self._current = self._open(self._read(for_shutdown=for_shutdown))
                self._depth += 1
                backend = self._current
            try:
                yield backend
            finally:
                with self._depth_lock:
                    self._depth -= 1
                    if not self._depth:
                        self._current = None

    def _read(self, *, for_shutdown: bool) -> LabState:
        try:
            return self.store.read()
        except LabError:
            if not for_shutdown:
                raise
            self.store.rename_damaged()
            return self.store.read()

    @contextlib.contextmanager
    def changing(self) -> Iterator[Backend]:
        """Lock this running lab against changes by other processes for the duration of the block; reentrant.

        Yields
        ------
        Backend
            The lab's components, with the snapshot that this change updates.

        Raises
        ------
        NotRunning, LabBusy
            The lab does not run, or another process is changing it for too long.
        """
        with self.exclusive():
            backend = self.running()
            # This process has the lock, so the process that was starting the lab has ended.
            was_starting = backend.state.phase == "starting"
            if was_starting or backend.state.keeper != this_process():
                phase = "incomplete" if was_starting else backend.state.phase
                backend.update(phase=phase, keeper=this_process())
            yield backend

    def reopen(self) -> Backend:
        """Create the components again after the snapshot's `mode` was changed, and return them.

        Call it inside a block of `exclusive`.
        """
        assert self._current is not None
        self._current = self._open(self._current.state)
        return self._current
