"""Start, stop and reset a whole lab, in the phases that its state records."""

from __future__ import annotations

import contextlib
from typing import Any

from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.choice import any_component_runs, choose_backend, requested_mode
from labstack.clients.relay import poll_interval
from labstack.clients.replication import restore_publication
from labstack.errors import (
    ComponentFailed,
    DownloadFailed,
    EngineUnavailable,
    LabError,
    StorageError,
    is_port_conflict,
)
from labstack.lifecycle import obtaining
from labstack.lifecycle.extensions import Extensions
from labstack.lifecycle.faults import Faults
from labstack.lifecycle.joining import refresh_after_version_change
from labstack.lifecycle.mesh import Mesh
from labstack.lifecycle.reset import reset_data
from labstack.lifecycle.starting import Start
from labstack.lifecycle.status import inspect_lab
from labstack.ports.plan import other_ports
from labstack.process_id import this_process
from labstack.progress import Progress
from labstack.state import Phase


class WholeLab:
    """The operations on all components of one lab.

    Parameters
    ----------
    access : LabAccess
        Access to the lab.
    """

    def __init__(self, access: LabAccess) -> None:
        self._access = access

    # -- start -----------------------------------------------------------------------------------------------------

    def start(self, progress: Progress) -> None:
        """Start all components that are not running, and complete an interrupted reset.

        Raises
        ------
        LabError
            A component failed or did not become ready in time; the others keep running.
        """
        poll_interval()  # an invalid value raises before anything has started
        with self._access.exclusive(progress.report) as backend:
            if backend.state.unfinished_reset:
                progress.report("a reset was interrupted; completing it")
                self.reset(progress)
            else:
                self._start(progress, renew_slots=False)

    def _start(self, progress: Progress, *, renew_slots: bool) -> None:
        """Start all components that are not running; fall back to local processes if containers fail.

        The fallback applies only to a lab's first start, and only if containers were not requested explicitly. A lab
        that has data in containers keeps its backend.
        """
        with self._access.exclusive(progress.report) as backend:
            is_first = backend.state.phase == "stopped" and not backend.state.components
            try:
                self._start_once(progress, renew_slots=renew_slots)
            except (DownloadFailed, EngineUnavailable, ComponentFailed) as error:
                is_in_containers = self._access.state().mode == "containers"
                if not is_in_containers or not is_first or requested_mode(self._access.wanted_mode) != "auto":
                    raise
                self.stop()
                progress.report(
                    f"Containers failed, so the lab starts as local processes: {error.problem} "
                    "To require containers, set LAB_MODE=containers."
                )
                self._start_once(progress, renew_slots=renew_slots, without_containers=True)

    def _start_once(self, progress: Progress, *, renew_slots: bool, without_containers: bool = False) -> None:
        backend = choose_backend(self._access, progress, without_containers=without_containers)
        phase = backend.state.phase
        if phase == "ready":
            now = inspect_lab(backend, memory=False)
            if now.healthy and not now.complaints:
                return
        _set_phase(backend, "starting")
        before = {n for n in backend.components() if backend.inspect(n).state in ("running", "paused")}
        if not before:
            backend.mesh_store().delete()
        try:
            for name in before:
                if backend.inspect(name).state == "paused":
                    backend.resume(name)
            try:
                self._start_components(backend, progress, renew_slots=renew_slots)
            except LabError as error:
                if not is_port_conflict(error):
                    raise
                # Another process took the port between the check and the use, such as another lab's startup.
                progress.report("another process took a port; starting again with other ports")
                _stop_all_but(before, backend)
                if not before:
                    backend.update(ports=other_ports(backend.state.ports))
                self._start_components(backend, progress, renew_slots=renew_slots)
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C undoes what this start has done
                _stop_all_but(before, backend)
            self._record_failed_start(phase, backend)
            raise
        _set_phase(backend, "ready")

    def _start_components(self, backend: Backend, progress: Progress, *, renew_slots: bool) -> None:
        backend.prepare(progress)
        Start(self._access.services, backend, progress, renew_slots=renew_slots).run()

    def _record_failed_start(self, before: Phase, backend: Backend) -> None:
        """Record that a start has failed. What runs keeps running, and the next start continues from there."""
        phase: Phase = "ready" if before == "ready" else "incomplete"
        if not any_component_runs(backend, self._access.wanted_mode):
            phase = "stopped"
            backend.down()  # removes the rest of components that died
        with contextlib.suppress(StorageError):  # a full disk may be the cause
            _set_phase(backend, phase)

    # -- stop ------------------------------------------------------------------------------------------------------

    def stop(self, *, purge: bool = False) -> None:
        """Stop everything that belongs to this lab, turn all fault switches off, and with `purge` remove its data."""
        if not self._access.paths.state.exists():
            return
        with self._access.exclusive(for_shutdown=True) as backend:
            # A full disk must not prevent the shutdown.
            with contextlib.suppress(StorageError):
                _set_phase(backend, "stopping")
            Extensions(self._access).stop_all(forget=purge)
            backend.down()
            if purge:
                backend.purge()
                obtaining.delete_progress(self._access.paths)
            with contextlib.suppress(StorageError):
                generation = backend.state.data_generation + 1
                purged = {"unfinished_reset": False, "data_generation": generation} if purge else {}
                _set_phase(backend, "stopped", switches={}, **purged)

    # -- reset -----------------------------------------------------------------------------------------------------

    def reset(self, progress: Progress) -> None:
        """Restore the baseline data, the lab's own configuration and all components.

        Raises
        ------
        LabError
            A component did not recover; the message names it. The next start completes the reset.
        """
        poll_interval()  # an invalid value raises before anything has changed
        faults, extensions = Faults(self._access), Extensions(self._access)
        with self._access.exclusive(progress.report) as backend:
            backend.update(unfinished_reset=True, keeper=this_process())
            # Services with a crash switch would crash in the middle of the reset. The other switches are turned off at
            # the end of the reset, because the duplicates that `guards-off` left must be removed first.
            faults.stop_crashing_services()
            self._stop_optional_components(backend)
            self._restore_mesh()
            with contextlib.suppress(LabError):  # without Prometheus there are no rules
                extensions.rules.reset()
            now = inspect_lab(backend, memory=False)
            if not now.healthy or now.complaints:
                self._start(progress, renew_slots=True)
                backend = self._access.backend()  # the lab may have another backend now
            else:
                for url in backend.endpoints().databases.values():
                    restore_publication(url)
            if backend.mode != "kubernetes":  # the extension services of a lab in another mode are not on the cluster
                extensions.remove_all()
            _set_phase(backend, "ready", data_generation=backend.state.data_generation + 1)
            with backend.every_instance() as instances:
                deleted = reset_data(backend.endpoints(), instances, progress)
            for service in list(backend.state.switches):
                faults.off(service)
            self._access.paths.scenario_file.unlink(missing_ok=True)
            backend.update(unfinished_reset=False, records_deleted=deleted)

    def _stop_optional_components(self, backend: Backend) -> None:
        """Stop the optional components, which run only after an explicit start."""
        for name in backend.components():
            if backend.component(name).optional and backend.inspect(name).state != "stopped":
                with self._access.changing():
                    backend.stop(name)
                    refresh_after_version_change(self._access, backend, name)

    def _restore_mesh(self) -> None:
        """Restore the lab's own mesh configuration: at once if the gateway runs, else at its next start."""
        store = self._access.backend().mesh_store()
        if store.is_own:
            return
        try:
            Mesh(self._access).reset()
        except LabError:
            store.delete()


def _stop_all_but(before: set[str], backend: Backend) -> None:
    """Stop the components that a startup has started; keep those that ran before."""
    if not before:
        backend.down()
        return
    for name in reversed(backend.components()):
        if name not in before:
            backend.stop(name)


def _set_phase(backend: Backend, phase: Phase, **changes: Any) -> None:
    backend.update(phase=phase, keeper=this_process(), **changes)
