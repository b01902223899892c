"""The `Lab` object, which starts, inspects, breaks, repairs and stops the lab.

It is a handle. The lab itself lives in its own processes and on disk, so any number of handles, shells and notebooks
can use the same lab.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from labstack import consistency as referee
from labstack.backends.base import Backend, Endpoints
from labstack.backends.choice import ModeChoice, choose_mode, requested_mode
from labstack.backends.processes import process
from labstack.backends.processes.backend import LocalBackend
from labstack.clients.relay import Relay
from labstack.clients.replication import restore_publication
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, load_services
from labstack.consistency import Verdict
from labstack.consistency.dead_letters import DeadLetters
from labstack.consistency.resend import resend
from labstack.errors import (
    ComponentFailed,
    DownloadFailed,
    EngineUnavailable,
    LabError,
    NotRunning,
    StorageError,
    is_port_conflict,
)
from labstack.findings import Finding
from labstack.gateway.choice import choose_control_plane
from labstack.gateway.store import MeshStore
from labstack.lifecycle import obtaining, report
from labstack.lifecycle.demo import Story, show
from labstack.lifecycle.doctor import examine
from labstack.lifecycle.extensions import Extensions
from labstack.lifecycle.faults import Faults
from labstack.lifecycle.joining import join_observers
from labstack.lifecycle.reset import reset_data
from labstack.lifecycle.starting import Start
from labstack.lifecycle.status import LabStatus, State, inspect_lab
from labstack.observability import observers
from labstack.progress import Progress
from labstack.state import Phase, StateStore, this_process

if TYPE_CHECKING:
    from labstack.lifecycle.mesh import Mesh

LOCK_WAIT = 180.0
"""Seconds that a verb waits for another process that is changing the same lab."""


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

    def __init__(
        self,
        name: str | None = None,
        *,
        paths: LabPaths | None = None,
        services: tuple[ServiceEntry, ...] | None = None,
        mode: str | None = None,
    ) -> None:
        self.wanted_mode = mode
        self.paths = paths or LabPaths.of_user(name)
        self.services = services or load_services()
        self._store = StateStore(self.paths)
        self._without_containers = False

    # -- status ----------------------------------------------------------------------------------------------------

    @property
    def backend(self) -> Backend:
        """The backend that runs the components, according to the current state file."""
        if self._store.read().mode == "containers":
            from labstack.backends.docker.backend import ContainerBackend

            return ContainerBackend(self.paths, self._store, self.services)
        return LocalBackend(self.paths, self._store, self.services)

    def _choose_backend(self, progress: Progress) -> None:
        """Choose the backend of a lab that does not run; a running lab keeps its own.

        Raises
        ------
        LabError
            The running lab has another backend than requested, or Docker is unavailable and can't report whether the
            lab runs.
        """
        state = self._store.read()
        if state.phase != "stopped" and self._any_component_runs():
            if self.wanted_mode not in (None, "auto", state.mode):
                raise LabError(
                    f"The lab runs in {state.mode} mode, but {self.wanted_mode!r} was requested.",
                    next_step="run `lab down` first, or use a lab of another name (LAB_NAME)",
                )
            return
        failed = ModeChoice("local", "containers failed on this machine")
        choice = failed if self._without_containers else choose_mode(self.wanted_mode)
        progress.report(str(choice))
        state.mode = choice.mode
        state.control_plane = choose_control_plane(choice.mode, self.paths)
        state.observed = observers.is_observed()
        state.observers = observers.choose_observers(choice.mode, self.paths) if state.observed else []
        self._store.write(state)

    def _any_component_runs(self) -> bool:
        backend = self.backend
        try:
            return any(backend.inspect(name).state in ("running", "paused") for name in backend.components())
        except EngineUnavailable:
            # An explicit request for the local backend abandons containers that Docker may still hold.
            if requested_mode(self.wanted_mode) == "local":
                return False
            raise

    @property
    def is_up(self) -> bool:
        """Report whether the lab was started and not shut down since; single components may still be down."""
        return self._store.read().phase != "stopped"

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of the lab's components."""
        return self.backend.endpoints()

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
            return inspect_lab(self._store.read(), self.backend, memory=memory, absent=obtaining.absent(self))
        except LabError as error:
            # It is unknown what should run, but processes of this lab may still be alive.
            state: State = "degraded" if process.lab_processes(self._store.lab_id) else "stopped"
            return LabStatus(LocalBackend.mode, state, Endpoints(), {}, {"lab": str(error)})

    def logs(self, name: str, lines: int = 40) -> str:
        """Return the last lines of a component's log."""
        return self.backend.log(name, lines)

    def __repr__(self) -> str:
        return report.status_text(self.status())

    def _repr_html_(self) -> str:
        return report.status_html(self.status())

    @property
    def mesh(self) -> Mesh:
        """The gateway's configuration: its control plane, and how to change it; see `labstack.lifecycle.mesh`."""
        from labstack.lifecycle.mesh import Mesh  # its imports take a third of a second

        return Mesh(self)

    @property
    def extensions(self) -> Extensions:
        """Extension services of this lab, such as the learner's service; see `labstack.lifecycle.extensions`."""
        return Extensions(self)

    @property
    def faults(self) -> Faults:
        """The fault switches of the services; see `labstack.lifecycle.faults`."""
        return Faults(self)

    @property
    def dead_letters(self) -> DeadLetters:
        """The records that services have dead-lettered; see `labstack.consistency.dead_letters`."""
        return DeadLetters(self._running)

    # -- the whole lab ---------------------------------------------------------------------------------------------

    def up(self, listener: Callable[[Progress], None] | None = None) -> LabStatus:
        """Start all components that are not running, and return when a probe event has reached every service.

        Parameters
        ----------
        listener : callable, optional
            Called with the progress after each change; default: the notebook's output, if there is one.

        Raises
        ------
        LabError
            A component failed. The message names it, with the last lines of its log and the next step. Components that
            this call started are stopped again.
        """
        progress = Progress(listener or report.notebook_listener())
        self._bring_up(progress, renew_slots=False)
        join_observers(self, progress)
        obtaining.start(self)
        return self.status(memory=False)

    def _bring_up(self, progress: Progress, *, renew_slots: bool) -> None:
        """Start all components that are not running; fall back to local processes if containers fail.

        The fallback applies only to a lab's first start, and only if containers were not requested explicitly. A lab
        that has data in containers keeps its backend.
        """
        is_first = not self._store.read().components
        try:
            self._bring_up_once(progress, renew_slots=renew_slots)
        except (DownloadFailed, EngineUnavailable, ComponentFailed) as error:
            state = self._store.read()
            in_containers = state.mode == "containers" and state.phase == "stopped"
            if not in_containers or not is_first or requested_mode(self.wanted_mode) != "auto":
                raise
            progress.report(
                f"Containers failed, so the lab starts as local processes: {error.problem} "
                "To require containers, set LAB_MODE=containers."
            )
            self._without_containers = True
            self._bring_up_once(progress, renew_slots=renew_slots)

    def _bring_up_once(self, progress: Progress, *, renew_slots: bool) -> None:
        with self._store.exclusive(LOCK_WAIT, progress.report):
            self._choose_backend(progress)
            state, backend = self._store.read(), self.backend
            self._set_phase("starting")
            now = inspect_lab(state, backend, memory=False)
            if state.phase == "ready" and now.healthy and not now.complaints:
                self._set_phase("ready")
                return
            before = {n for n in backend.components() if backend.inspect(n).state in ("running", "paused")}
            if not before:
                MeshStore(self.paths).delete()
            try:
                for name in before:
                    if backend.inspect(name).state == "paused":
                        backend.resume(name)
                try:
                    backend.prepare(progress)
                    Start(self.services, backend, progress, renew_slots=renew_slots).run()
                except LabError as error:
                    if not is_port_conflict(error):
                        raise
                    # Another process took the port between the check and the use, such as another lab's startup.
                    progress.report("another process took a port; starting again with other ports")
                    self._undo_startup(backend, before)
                    backend.prepare(progress)
                    Start(self.services, backend, progress, renew_slots=renew_slots).run()
            except BaseException:
                self._undo_startup(backend, before)
                raise
            self._set_phase("ready")

    def _undo_startup(self, backend: Backend, before: set[str]) -> None:
        """Stop the components that a failed startup has started; keep those that ran before."""
        if before:
            for name in reversed(backend.components()):
                if name not in before:
                    backend.stop(name)
            self._set_phase("ready")
        else:
            backend.down()
            with contextlib.suppress(StorageError):
                self._set_phase("stopped")

    def down(self, *, purge: bool = False) -> None:
        """Stop everything that belongs to this lab, regardless of who started it, and turn all fault switches off.

        A second call does no harm.

        Parameters
        ----------
        purge : bool
            Remove its data, too. Programs in the cache stay.
        """
        if not self.paths.state.exists():
            return
        with self._store.exclusive(LOCK_WAIT, for_shutdown=True):
            try:
                self._store.read()
            except LabError:
                self._store.rename_damaged()
            # A full disk must not prevent the shutdown.
            with contextlib.suppress(StorageError):
                self._set_phase("stopping")
            self.extensions.stop_all(forget=purge)
            self.backend.down()
            if purge:
                self.backend.purge()
                obtaining.delete_progress(self)
            with contextlib.suppress(StorageError):
                self._set_phase("stopped", switches={}, new_data=purge)

    def reset(self) -> None:
        """Restore the baseline data within seconds.

        Afterwards all topics are empty, no consumer lags, no event is in flight, and all fault switches are off.
        Components that were stopped, killed or paused are started first.

        Raises
        ------
        LabError
            A component did not recover; the message names it.
        """
        progress = Progress(report.notebook_listener())
        # They would crash in the middle of the reset. The other switches are turned off at its end, because the
        # duplicates that `guards-off` left must be removed first.
        self.faults.stop_crashing_services()
        self._stop_optional_components()
        self._restore_mesh()
        now = inspect_lab(self._store.read(), self.backend, memory=False)
        if not now.healthy or now.complaints:
            self._bring_up(progress, renew_slots=True)
        else:
            for url in self.endpoints.databases.values():
                restore_publication(url)
        self.extensions.remove_all()
        with self._store.exclusive(LOCK_WAIT, progress.report):
            self._set_phase("ready", new_data=True)
            reset_data(self.endpoints, [service.name for service in self.services])
        for service in self.faults.active:
            self.faults.off(service)
        self.paths.scenario_file.unlink(missing_ok=True)

    def _stop_optional_components(self) -> None:
        """Stop the optional components, which run only after an explicit start."""
        backend = self.backend
        for name in backend.components():
            if backend.component(name).optional and backend.inspect(name).state != "stopped":
                self.stop(name)

    def _restore_mesh(self) -> None:
        """Restore the lab's own mesh configuration: at once if the gateway runs, else at its next start."""
        store = MeshStore(self.paths)
        if store.is_own:
            return
        try:
            self.mesh.reset()
        except LabError:
            store.delete()

    def demo(self) -> list[Story]:
        """Send the demo orders through the running lab, and return the story of each."""
        stories: list[Story] = []
        show(self._running(), lambda _, story: stories.append(story))
        return stories

    def check(self, wait_for_rest: float = 0) -> list[Verdict]:
        """Check every invariant of the saga against the databases and topics; see `labstack.consistency`.

        Parameters
        ----------
        wait_for_rest : float
            Seconds to wait until the lab is at rest. Invariants that hold only at rest stay open (None) until then.
        """
        return referee.check(self._running(), wait_for_rest)

    def prefetch(self, listener: Callable[[Progress], None] | None = None) -> None:
        """Download and verify every program, so that later starts need no network; start nothing."""
        progress = Progress(listener or report.notebook_listener())
        with self._store.exclusive(LOCK_WAIT, progress.report):
            self._choose_backend(progress)
            self.backend.prepare(progress)

    def doctor(self) -> list[Finding]:
        """Check this machine for problems that could affect a lab, without changing anything."""
        return examine(self.paths, self.services, self.wanted_mode)

    # -- one component ---------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a component, and return when it is ready."""
        with self.changing():
            backend = self.backend
            if backend.inspect(name).state == "paused":
                backend.resume(name)
            backend.launch(name)
            backend.await_ready(name)
            self._await_relay(name)
            self._refresh_after_version_change(name)

    def stop(self, name: str) -> None:
        """Stop a component gracefully."""
        with self.changing():
            self.backend.stop(name)
            self._refresh_after_version_change(name)

    def kill(self, name: str) -> None:
        """Kill a component at once, as a crash would (SIGKILL)."""
        with self.changing():
            self.backend.kill(name)

    def restart(self, name: str) -> None:
        """Stop a component and start it again with its current code and configuration."""
        self.stop(name)
        self.start(name)

    def pause(self, name: str) -> None:
        """Pause a component (SIGSTOP): it keeps its connections, but does not respond."""
        with self.changing():
            self.backend.pause(name)

    def resume(self, name: str) -> None:
        """Resume a paused component (SIGCONT)."""
        with self.changing():
            self.backend.resume(name)

    # -- lost events ------------------------------------------------------------------------------

    def resend(self, order_id: str) -> dict[str, int]:
        """Publish every event of an order again; return the number of events from each service's outbox."""
        return resend(self._running(), order_id)

    # -- after a change ---------------------------------------------------------------------------------------------

    def _refresh_after_version_change(self, name: str) -> None:
        """Update the mesh and Prometheus after an additional version of a service has started or stopped."""
        backend = self.backend
        if not backend.component(name).optional:
            return
        self.mesh.refresh()
        for observer in backend.observers():
            if backend.inspect(observer).state == "running":
                backend.component(observer).settle()

    def _await_relay(self, name: str) -> None:
        """Wait until the connectors' tasks run again, if the component is Connect."""
        if name != "connect":
            return
        relay = Relay(self.endpoints.connect)
        for service in self.services:
            # A connector whose database is down waits for it without a limit, so it is left out here.
            if self.backend.inspect(service.database).state == "running":
                relay.await_task(service.name, self.endpoints.databases[service.name])

    # -- state file ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Lock this running lab against changes by other processes for the duration of the block; reentrant.

        Raises
        ------
        NotRunning, LabBusy
            The lab does not run, or another process is changing it for too long.
        """
        with self._store.exclusive(LOCK_WAIT):
            self._running()
            self._set_phase(self._store.read().phase)
            yield

    def _running(self) -> Endpoints:
        """Return the addresses of the components; raise NotRunning if the lab was never started or was shut down."""
        if self._store.read().phase == "stopped":
            raise NotRunning("The lab is not running.", next_step="run `lab up`")
        return self.endpoints

    def _set_phase(
        self, phase: Phase, switches: dict[str, dict[str, str]] | None = None, *, new_data: bool = False
    ) -> None:
        state = self._store.read()
        state.phase, state.keeper = phase, this_process()
        state.switches = state.switches if switches is None else switches
        state.data_generation += new_data
        self._store.write(state)

    @property
    def data_generation(self) -> int:
        """The data generation: how often a reset or a purge has restored the baseline data."""
        return self._store.read().data_generation
