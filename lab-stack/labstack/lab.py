"""The `Lab` object, which starts, inspects, breaks, repairs and stops the lab.

It is a handle. The lab itself lives in its own processes and on disk, so any number of handles, shells and notebooks
can use the same lab.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from labstack.arguments import Count, Seconds, checked, checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend, Endpoints
from labstack.backends.choice import MODES
from labstack.backends.processes import process
from labstack.backends.processes.backend import LocalBackend
from labstack.clients.relay import Relay
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, load_services
from labstack.errors import LabError, one_of
from labstack.lifecycle import obtaining, report
from labstack.lifecycle.faults import Faults
from labstack.lifecycle.status import LabStatus, State, inspect_lab
from labstack.progress import Progress

# `lab status` and each access to a running lab pay for the imports above; the rest is imported where it is used.
if TYPE_CHECKING:
    from labstack.consistency import InvariantVerdict
    from labstack.consistency.dead_letters import DeadLetters
    from labstack.lifecycle.extensions import Extensions
    from labstack.lifecycle.mesh import Mesh
    from labstack.lifecycle.whole_lab import WholeLab


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
        Backend for the next start: ``local``, ``containers``, ``kubernetes`` (attach to a cluster) or ``auto``;
        default ``LAB_MODE``, else ``auto``. A running lab keeps its backend.

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
            return LabStatus(self._recorded_mode(), state, Endpoints(), {}, {"lab": str(error)})

    def _recorded_mode(self) -> str:
        """Return the mode of the state file; that of local processes if the file is damaged."""
        try:
            return self._access.state().mode
        except LabError:
            return LocalBackend.mode

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
        from labstack.lifecycle.mesh import Mesh

        return Mesh(self._access)

    @property
    def extensions(self) -> Extensions:
        """What a learner adds to this lab: services, and Prometheus rules; see `labstack.lifecycle.extensions`."""
        from labstack.lifecycle.extensions import Extensions

        return Extensions(self._access)

    @property
    def faults(self) -> Faults:
        """Faults on purpose: components that crash or hang, and the fault switches; see `labstack.lifecycle.faults`."""
        return Faults(self._access)

    @property
    def dead_letters(self) -> DeadLetters:
        """The records that services have dead-lettered; see `labstack.consistency.dead_letters`."""
        from labstack.consistency.dead_letters import DeadLetters

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
        from labstack.lifecycle.joining import join_observers

        progress = Progress(listener or report.notebook_listener())
        with self._access.exclusive(progress.report):
            self._whole().start(progress)
            join_observers(self._access, progress)
            obtaining.start(self._access)
            return self.status(memory=False)

    def down(self, *, purge: bool = False) -> None:
        """Stop everything that belongs to this lab, regardless of who started it, and turn all fault switches off.

        A second call does no harm.

        Parameters
        ----------
        purge : bool
            Remove its data, too. Programs in the cache stay.
        """
        self._whole().stop(purge=purge)

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
            self._whole().reset(Progress(listener or report.notebook_listener()))

    def check(self, wait_for_rest: Seconds = 0) -> list[InvariantVerdict]:
        """Check every invariant of the saga against the databases and topics; see `labstack.consistency`.

        Parameters
        ----------
        wait_for_rest : float
            Seconds to wait until the lab is at rest. Invariants that hold only at rest stay open (None) until then.
        """
        from labstack import consistency as referee

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

    def restart(self, name: str) -> None:
        """Stop a component and start it again with its current code and configuration."""
        with report.busy(f"restarting {name}"), self._access.changing():
            self.stop(name)
            self.start(name)

    # -- lost events ------------------------------------------------------------------------------

    def resend(self, order_id: str) -> dict[str, int]:
        """Publish every event of an order again; return the number of events from each service's outbox."""
        from labstack.consistency.resend import resend

        return resend(self._access.running().endpoints(), order_id)

    def _whole(self) -> WholeLab:
        from labstack.lifecycle.whole_lab import WholeLab

        return WholeLab(self._access)

    # -- after a change ---------------------------------------------------------------------------------------------

    def _refresh_after_version_change(self, name: str, backend: Backend) -> None:
        from labstack.lifecycle.joining import refresh_after_version_change

        refresh_after_version_change(self._access, backend, name)

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


def access_of(lab: Lab) -> LabAccess:
    """Return the access to a lab's state and components, for code that adds operations to the lab."""
    return lab._access
