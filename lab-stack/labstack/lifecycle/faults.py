"""Break a lab on purpose: kill or pause a component, or turn on a fault switch of a service."""

from __future__ import annotations

import time
from collections.abc import Callable

from labstack.arguments import checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.components import Broker
from labstack.config.settings import checked_switch
from labstack.errors import UnknownComponent, one_of
from labstack.lifecycle import report
from labstack.lifecycle.reset import await_checkpoint

Switches = dict[str, str]
"""Values of a service's fault switches, by name."""


@checked_class
class Faults:
    """The faults of one lab.

    Parameters
    ----------
    access : LabAccess
        Access to the lab.
    """

    def __init__(self, access: LabAccess) -> None:
        self._access = access

    # -- components ------------------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """Kill a component, as a crash would (SIGKILL); `lab.start` starts it again.

        Within a second after a reset, the broker is killed up to a second later (see `await_checkpoint`).
        """
        with self._access.changing() as backend:
            _keep_deletions(backend, name)
            backend.kill(name)

    def pause(self, name: str) -> None:
        """Pause a component (SIGSTOP, or `docker pause`): it keeps its connections, but does not respond.

        Within a second after a reset, the broker is paused up to a second later (see `await_checkpoint`).
        """
        with self._access.changing() as backend:
            _keep_deletions(backend, name)
            backend.pause(name)

    def resume(self, name: str) -> None:
        """Resume a paused component (SIGCONT, or `docker unpause`)."""
        with self._access.changing() as backend:
            backend.resume(name)

    # -- fault switches --------------------------------------------------------------------------------------------

    @property
    def active(self) -> dict[str, Switches]:
        """The fault switches that are on, and their values, by service."""
        return self._access.state().switches

    def on(self, service: str, switch: str, value: str | float = "") -> None:
        """Turn on a fault switch of a service, and restart the service unless it is stopped.

        Parameters
        ----------
        service : str
            Name of the service.
        switch : str
            Name from ``lab switch list``.
        value : str or float, optional
            Value, if the switch takes one: the seconds of ``slow-handler``, the crash of ``dual-write``.

        Raises
        ------
        LabError
            The service or the switch does not exist, or the switch does not accept that value.
        """
        checked_switch(switch, str(value))
        self._change(service, lambda active: {**active, switch: str(value)})

    def off(self, service: str, switch: str | None = None) -> None:
        """Turn off a fault switch of a service, or all of them, and restart the service unless it is stopped."""
        if switch is not None:
            checked_switch(switch)
        self._change(service, lambda active: {k: v for k, v in active.items() if switch not in (None, k)})

    def stop_crashing_services(self) -> None:
        """Stop the services whose fault switches make them crash, and turn those switches off."""
        active = self.active
        kept = {service: {name: v for name, v in active[service].items() if "crash" not in v} for service in active}
        if kept == active:
            return
        with self._access.changing() as backend:
            backend.update(switches={service: left for service, left in kept.items() if left})
            for service in active:
                if kept[service] != active[service]:
                    backend.stop(service)

    def _change(self, service: str, change: Callable[[Switches], Switches]) -> None:
        known = [entry.name for entry in self._access.services]
        if service not in known:
            raise UnknownComponent(f"Unknown service {service!r}.", next_step=one_of(service, known))
        with report.busy(f"restarting {service}"), self._access.changing() as backend:
            switches = dict(backend.state.switches)
            before = switches.pop(service, {})
            after = change(before)
            if after == before:
                return
            backend.update(switches={**switches, service: after} if after else switches)
            if backend.inspect(service).state != "stopped":
                backend.stop(service)
                backend.launch(service)
                backend.await_ready(service)


def _keep_deletions(backend: Backend, name: str) -> None:
    """Wait, before a broker is killed or paused, until the deletions of the last reset are on disk."""
    state = backend.state
    if isinstance(backend.component(name), Broker) and backend.inspect(name).state == "running":
        await_checkpoint(time.time() if state.unfinished_reset else state.records_deleted)
