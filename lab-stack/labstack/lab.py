"""The `Lab` object, which starts, inspects, breaks, repairs and stops the lab.

It is a handle. The lab itself lives in its own processes and on disk, so any number of handles, shells and notebooks
can use the same lab.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labstack import consistency as referee
from labstack.arguments import Count, Seconds, checked, checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend, Endpoints
from labstack.backends.choice import MODES, any_component_runs, choose_backend, requested_mode
from labstack.backends.processes import process
from labstack.backends.processes.backend import LocalBackend
from labstack.clients.relay import Relay
from labstack.clients.replication import restore_publication
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, load_services
from labstack.consistency import InvariantVerdict
from labstack.consistency.dead_letters import DeadLetters
from labstack.consistency.resend import resend
from labstack.errors import (
    ComponentFailed,
    DownloadFailed,
    EngineUnavailable,
    LabError,
    StorageError,
    is_port_conflict,
    one_of,
)
from labstack.gateway.store import MeshStore
from labstack.lifecycle import obtaining, report
from labstack.lifecycle.demo import Story, show
from labstack.lifecycle.extensions import Extensions
from labstack.lifecycle.faults import Faults
from labstack.lifecycle.joining import join_observers, settle_observers
from labstack.lifecycle.reset import reset_data
from labstack.lifecycle.starting import Start
from labstack.lifecycle.status import LabStatus, State, inspect_lab
from labstack.ports.plan import other_ports
from labstack.process_id import this_process
from labstack.progress import Progress
from labstack.state import Phase

if TYPE_CHECKING:
    from labstack.lifecycle.mesh import Mesh


@checked_class
class Lab:
    """A lab: four services with their databases, a broker, and the relay between them.

    Parameters
    ----------
    name : str, optional
        Name of one of this user's labs; default ``LAB_NAME``, else ``default``.
    paths : LabPaths, optional
        Folders to use instead of the user's.
    services : tuple of ServiceEntry, optional
        Services to run instead of those in ``lab-stack/services.toml``.
    mode : str, optional
        Backend for the next start: ``local``, ``containers`` or ``auto``; default ``LAB_MODE``, else ``auto``. A
        running lab keeps its backend.

    Examples
    --------
    >>> from labstack import Lab
    >>> lab = Lab()        # attaches; starts nothing
    >>> lab                # shows the status of the lab
    """

    @checked
    def __init__(
        self,
        name: str | None = None,
        *,
        paths: LabPaths | None = None,
        services: tuple[ServiceEntry, ...] | None = None,
        mode: str | None = None,
    ) -> None:
        if mode and mode not in ("auto", *MODES):
            raise LabError(f"Unknown mode {mode!r}.", next_step=one_of(mode, ["auto", *MODES]))
        self._access = LabAccess(paths or LabPaths.of_user(name), services or load_services(), mode)

    # -- status ----------------------------------------------------------------------------------------------------

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of the lab's components."""
        return self._access.backend().endpoints()

    def status(self, *, memory: bool = True) -> LabStatus:
        """Query every component and return the status of the lab.

        Parameters
        ----------
        memory : bool
            Whether to measure memory, which takes some 50 ms.

        Returns
        -------
        LabStatus
            The current status. A stopped or broken lab does not raise an error: the status reports it.
        """
        try:
            backend = self._access.backend()
            absent = obtaining.absent(self._access.paths, backend.state)
            return inspect_lab(backend, memory=memory, absent=absent)
        except LabError as error:
            # It is unknown what should run, but processes of this lab may still be alive.
            state: State = "degraded" if process.lab_processes(self._access.store.lab_id) else "stopped"
            return LabStatus(LocalBackend.mode, state, Endpoints(), {}, {"lab": str(error)})

    def logs(self, name: str, lines: Count = 40) -> str:
        """Return the last lines of a component's log."""
        return self._access.backend().log(name, lines)

    def __repr__(self) -> str:
        return report.status_text(self.status())

    def _repr_html_(self) -> str:
        return report.status_html(self.status())

    @property
    def mesh(self) -> Mesh:
        """The gateway's configuration: its control plane, and how to change it; see `labstack.lifecycle.mesh`."""
        from labstack.lifecycle.mesh import Mesh  # its imports take a third of a second

        return Mesh(self._access)

    @property
    def extensions(self) -> Extensions:
        """What a learner adds to this lab: services, and Prometheus rules; see `labstack.lifecycle.extensions`."""
        return Extensions(self._access)

    @property
    def faults(self) -> Faults:
        """The fault switches of the services; see `labstack.lifecycle.faults`."""
        return Faults(self._access)

    @property
    def dead_letters(self) -> DeadLetters:
        """The records that services have dead-lettered; see `labstack.consistency.dead_letters`."""
        return DeadLetters(lambda: self._access.running().endpoints())

    # -- the whole lab ---------------------------------------------------------------------------------------------

    def up(self, listener: Callable[[Progress], None] | None = None) -> LabStatus:
        """Start all components that are not running, and return when a probe event has reached every service.

        A service that has a backlog may still be behind then, if it catches up: the progress reports how far. If an
        earlier reset was interrupted, the start completes it.

        Parameters
        ----------
        listener : callable, optional
            Called with the progress after each change; default: the notebook's output, if there is one.

        Raises
        ------
        LabError
            A component failed or did not become ready in time. The message names it, with the last lines of its log
            and the next step. The other components keep running, and the next call continues from there.
        """
        progress = Progress(listener or report.notebook_listener())
        with self._access.exclusive(progress.report) as backend:
            if backend.state.unfinished_reset:
                progress.report("a reset was interrupted; completing it")
                self._reset(progress)
            else:
                self._bring_up(progress, renew_slots=False)
            join_observers(self._access, progress)
            obtaining.start(self._access)
            return self.status(memory=False)

    def _bring_up(self, progress: Progress, *, renew_slots: bool) -> None:
        """Start all components that are not running; fall back to local processes if containers fail.

        The fallback applies only to a lab's first start, and only if containers were not requested explicitly. A lab
        that has data in containers keeps its backend.
        """
        with self._access.exclusive(progress.report) as backend:
            is_first = backend.state.phase == "stopped" and not backend.state.components
            try:
                self._bring_up_once(progress, renew_slots=renew_slots)
            except (DownloadFailed, EngineUnavailable, ComponentFailed) as error:
                is_in_containers = self._access.state().mode == "containers"
                if not is_in_containers or not is_first or requested_mode(self._access.wanted_mode) != "auto":
                    raise
                self.down()
                progress.report(
                    f"Containers failed, so the lab starts as local processes: {error.problem} "
                    "To require containers, set LAB_MODE=containers."
                )
                self._bring_up_once(progress, renew_slots=renew_slots, without_containers=True)

    def _bring_up_once(self, progress: Progress, *, renew_slots: bool, without_containers: bool = False) -> None:
        backend = choose_backend(self._access, progress, without_containers=without_containers)
        phase = backend.state.phase
        if phase == "ready":
            now = inspect_lab(backend, memory=False)
            if now.healthy and not now.complaints:
                return
        self._set_phase(backend, "starting")
        before = {n for n in backend.components() if backend.inspect(n).state in ("running", "paused")}
        if not before:
            MeshStore(self._access.paths).delete()
        try:
            for name in before:
                if backend.inspect(name).state == "paused":
                    backend.resume(name)
            try:
                backend.prepare(progress)
                Start(self._access.services, backend, progress, renew_slots=renew_slots).run()
            except LabError as error:
                if not is_port_conflict(error):
                    raise
                # Another process took the port between the check and the use, such as another lab's startup.
                progress.report("another process took a port; starting again with other ports")
                self._stop_all_but(before, backend)
                if not before:
                    backend.update(ports=other_ports(backend.state.ports))
                backend.prepare(progress)
                Start(self._access.services, backend, progress, renew_slots=renew_slots).run()
        except BaseException as error:
            if not isinstance(error, Exception):  # Ctrl-C undoes what this start has done
                self._stop_all_but(before, backend)
            self._record_failed_start(phase, backend)
            raise
        self._set_phase(backend, "ready")

    def _stop_all_but(self, before: set[str], backend: Backend) -> None:
        """Stop the components that a startup has started; keep those that ran before."""
        if not before:
            backend.down()
            return
        for name in reversed(backend.components()):
            if name not in before:
                backend.stop(name)

    def _record_failed_start(self, before: Phase, backend: Backend) -> None:
        """Record that a start has failed. What runs keeps running, and the next start continues from there."""
        phase: Phase = "ready" if before == "ready" else "incomplete"
        if not any_component_runs(backend, self._access.wanted_mode):
            phase = "stopped"
            backend.down()  # removes the rest of components that died
        with contextlib.suppress(StorageError):  # a full disk may be the cause
            self._set_phase(backend, phase)

    def down(self, *, purge: bool = False) -> None:
        """Stop everything that belongs to this lab, regardless of who started it, and turn all fault switches off.

        A second call does no harm.

        Parameters
        ----------
        purge : bool
            Remove its data, too. Programs in the cache stay.
        """
        if not self._access.paths.state.exists():
            return
        with self._access.exclusive(for_shutdown=True) as backend:
            # A full disk must not prevent the shutdown.
            with contextlib.suppress(StorageError):
                self._set_phase(backend, "stopping")
            self.extensions.stop_all(forget=purge)
            backend.down()
            if purge:
                backend.purge()
                obtaining.delete_progress(self._access.paths)
            with contextlib.suppress(StorageError):
                generation = backend.state.data_generation + 1
                purged = {"unfinished_reset": False, "data_generation": generation} if purge else {}
                self._set_phase(backend, "stopped", switches={}, **purged)

    def reset(self, listener: Callable[[Progress], None] | None = None) -> None:
        """Restore the baseline data within seconds.

        Afterwards all topics are empty, no consumer lags, no event is in flight, and all fault switches are off.
        Components that were stopped, killed or paused are started first. If a reset is interrupted, the next `up` or
        `reset` completes it.

        Parameters
        ----------
        listener : callable, optional
            Called with the progress after each change; default: the notebook's output, if there is one.

        Raises
        ------
        LabError
            A component did not recover; the message names it.
        """
        with report.busy("restoring the baseline data"):
            self._reset(Progress(listener or report.notebook_listener()))

    def _reset(self, progress: Progress) -> None:
        with self._access.exclusive(progress.report) as backend:
            backend.update(unfinished_reset=True, keeper=this_process())
            # They would crash in the middle of the reset. The other switches are turned off at its end, because the
            # duplicates that `guards-off` left must be removed first.
            self.faults.stop_crashing_services()
            self._stop_optional_components(backend)
            self._restore_mesh()
            with contextlib.suppress(LabError):  # without Prometheus there are no rules
                self.extensions.rules.reset()
            now = inspect_lab(backend, memory=False)
            if not now.healthy or now.complaints:
                self._bring_up(progress, renew_slots=True)
                backend = self._access.backend()  # the lab may have another backend now
            else:
                for url in backend.endpoints().databases.values():
                    restore_publication(url)
            self.extensions.remove_all()
            self._set_phase(backend, "ready", data_generation=backend.state.data_generation + 1)
            reset_data(backend.endpoints(), [service.name for service in self._access.services], progress)
            for service in list(backend.state.switches):
                self.faults.off(service)
            self._access.paths.scenario_file.unlink(missing_ok=True)
            backend.update(unfinished_reset=False)

    def _stop_optional_components(self, backend: Backend) -> None:
        """Stop the optional components, which run only after an explicit start."""
        for name in backend.components():
            if backend.component(name).optional and backend.inspect(name).state != "stopped":
                self.stop(name)

    def _restore_mesh(self) -> None:
        """Restore the lab's own mesh configuration: at once if the gateway runs, else at its next start."""
        store = MeshStore(self._access.paths)
        if store.is_own:
            return
        try:
            self.mesh.reset()
        except LabError:
            store.delete()

    def demo(self) -> list[Story]:
        """Send the demo orders through the running lab, and return the story of each."""
        stories: list[Story] = []
        show(self._access.running().endpoints(), lambda _, story: stories.append(story))
        return stories

    def check(self, wait_for_rest: Seconds = 0) -> list[InvariantVerdict]:
        """Check every invariant of the saga against the databases and topics; see `labstack.consistency`.

        Parameters
        ----------
        wait_for_rest : float
            Seconds to wait until the lab is at rest. Invariants that hold only at rest stay open (None) until then.
        """
        with report.busy("checking the invariants"):
            return referee.check(self._access.running().endpoints(), wait_for_rest)

    # -- one component ---------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a component, and return when it is ready."""
        with report.busy(f"starting {name}"), self._access.changing() as backend:
            if backend.inspect(name).state == "paused":
                backend.resume(name)
            backend.launch(name)
            backend.await_ready(name)
            self._await_relay(name, backend)
            self._refresh_after_version_change(name, backend)

    def stop(self, name: str) -> None:
        """Stop a component gracefully."""
        with report.busy(f"stopping {name}"), self._access.changing() as backend:
            backend.stop(name)
            self._refresh_after_version_change(name, backend)

    def kill(self, name: str) -> None:
        """Kill a component at once, as a crash would (SIGKILL)."""
        with self._access.changing() as backend:
            backend.kill(name)

    def restart(self, name: str) -> None:
        """Stop a component and start it again with its current code and configuration."""
        with report.busy(f"restarting {name}"), self._access.changing():
            self.stop(name)
            self.start(name)

    def pause(self, name: str) -> None:
        """Pause a component (SIGSTOP): it keeps its connections, but does not respond."""
        with self._access.changing() as backend:
            backend.pause(name)

    def resume(self, name: str) -> None:
        """Resume a paused component (SIGCONT)."""
        with self._access.changing() as backend:
            backend.resume(name)

    # -- lost events ------------------------------------------------------------------------------

    def resend(self, order_id: str) -> dict[str, int]:
        """Publish every event of an order again; return the number of events from each service's outbox."""
        return resend(self._access.running().endpoints(), order_id)

    # -- after a change ---------------------------------------------------------------------------------------------

    def _refresh_after_version_change(self, name: str, backend: Backend) -> None:
        """Update the mesh and Prometheus after an additional version of a service has started or stopped."""
        if not backend.component(name).optional:
            return
        self.mesh.refresh()
        settle_observers(backend)

    def _await_relay(self, name: str, backend: Backend) -> None:
        """Wait until the connectors' tasks run again, if the component is Connect."""
        if name != "connect":
            return
        where = backend.endpoints()
        relay = Relay(where.connect)
        for service in self._access.services:
            # A connector whose database is down waits for it without a limit, so it is left out here.
            if backend.inspect(service.database).state == "running":
                with report.busy(f"waiting for the connector of {service.name}"):
                    relay.await_task(service.name, where.databases[service.name])

    def _set_phase(self, backend: Backend, phase: Phase, **changes: Any) -> None:
        backend.update(phase=phase, keeper=this_process(), **changes)


def access_of(lab: Lab) -> LabAccess:
    """Return the access to a lab's state and components, for code that adds operations to the lab."""
    return lab._access
