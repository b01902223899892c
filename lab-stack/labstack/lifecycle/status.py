"""The status of a lab: inspect every component once, and derive the overall state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import httpx

from labstack.backends.base import Backend, ComponentStatus, Endpoints
from labstack.backends.components import Gateway
from labstack.clients import http
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.clients.relay import Relay, connector_name, retained_bytes, slot_is_read
from labstack.lifecycle.obtaining import Absent
from labstack.state import LabState
from labstack.waiting import poll_until

State = Literal["ready", "starting", "degraded", "stopped"]

RETAINED_LIMIT = 16 * 1024 * 1024
"""Bytes of write-ahead log retained for Debezium above which the status reports them even while Debezium reads."""


@dataclass(frozen=True)
class LabStatus:
    """A snapshot of the lab's status.

    Attributes
    ----------
    mode : str
        Backend of the lab: ``local`` or ``containers``.
    state : str
        ``ready``: every required component works. ``starting``: a process is starting the lab. ``degraded``: a
        component is missing or not ready. ``stopped``: no component runs.
    endpoints : Endpoints
        Addresses of the components.
    components : dict
        ComponentStatus by name.
    complaints : dict
        Problem by component: process, readiness, or connector task. Observers are included, but the lab is ready
        without them.
    switches : dict
        Active fault switches and their values, by service.
    retained : dict
        Bytes of write-ahead log that a database retains for Debezium, by component; only if Debezium does not read the
        slot, or if they exceed `RETAINED_LIMIT`.
    control_plane : str
        Control plane of the gateway: ``istiod`` or ``translator``; empty if `components` has no gateway.
    absent : Absent
        Optional programs that the lab does not have, such as Grafana, and the progress of their downloads.
    """

    mode: str
    state: State
    endpoints: Endpoints
    components: dict[str, ComponentStatus]
    complaints: dict[str, str]
    switches: dict[str, dict[str, str]] = field(default_factory=dict)
    retained: dict[str, int] = field(default_factory=dict)
    control_plane: str = ""
    absent: Absent = field(default_factory=Absent)

    @property
    def healthy(self) -> bool:
        return self.state == "ready" or (self.state == "starting" and not self.complaints)

    @property
    def rss_bytes(self) -> int:
        """Total memory of all components, in bytes."""
        return sum(component.rss_bytes or 0 for component in self.components.values())

    def to_json(self) -> dict[str, object]:
        """Return the object that ``lab status --json`` prints."""
        components = {
            name: {
                key: value
                for key, value in {
                    "state": component.state,
                    "pid": component.pid,
                    "container": component.container,
                    "rss_bytes": component.rss_bytes,
                    "log": component.log,
                    "complaint": self.complaints.get(name),
                    "switches": self.switches.get(name),
                    "retained_wal_bytes": self.retained.get(name),
                    "control_plane": self.control_plane if name == Gateway.name else None,
                }.items()
                if value is not None
            }
            for name, component in self.components.items()
        }
        endpoints = {} if self.state == "stopped" else self.endpoints.to_json()
        result: dict[str, object] = {
            "mode": self.mode,
            "state": self.state,
            "endpoints": endpoints,
            "components": components,
        }
        if self.absent.downloading:
            result["coming"] = self.absent.downloading
        if self.absent.failed:
            result["not_fetched"] = list(self.absent.failed)
        return result


def inspect_lab(state: LabState, backend: Backend, *, memory: bool, absent: Absent | None = None) -> LabStatus:
    """Inspect every component in parallel; wait for each at most twice two seconds."""
    names, observers = backend.components(), set(backend.observers())
    expected = {*backend.required(), *observers}
    with ThreadPoolExecutor(12) as pool:
        components = dict(zip(names, pool.map(lambda n: backend.inspect(n, memory=memory), names), strict=True))
        # Hide optional components until they are started.
        components = {n: c for n, c in components.items() if n in expected or c.state != "stopped"}
        names = list(components)
        where = backend.endpoints()
        complaints: dict[str, str] = {n: c.state for n, c in components.items() if c.state != "running"}
        retained: dict[str, int] = {}
        if len(complaints) < len(names) and where.connect:
            urls = {**where.services, **where.versions}
            queried = [n for n in urls if n in components and n not in complaints]
            running_observers = [n for n in observers if n not in complaints]
            ready = pool.map(lambda n: backend.component(n).is_ready(), running_observers)
            answers = pool.map(lambda n: _query_service(urls[n]), queried)
            if (
                Gateway.name in components
                and Gateway.name not in complaints
                and not EnvoyAdmin(where.envoy_admin).listens()
            ):
                complaints[Gateway.name] = "has no listener; `lab mesh reset` restores the lab's own configuration"
            reachable = [s for s in where.databases if f"{s}-db" not in complaints]
            slots = pool.map(lambda s: slot_is_read(where.databases[s]), reachable)
            tasks = pool.submit(_query_connectors, where, list(where.services)) if "connect" not in complaints else None
            complaints.update(
                {n: "does not answer" for n, is_ready in zip(running_observers, ready, strict=True) if not is_ready}
            )
            complaints.update({n: answer for n, answer in zip(queried, answers, strict=True) if answer})
            unread = [s for s, is_read in zip(reachable, slots, strict=True) if not is_read]
            task_problem = tasks.result() if tasks else ""
            if tasks and not task_problem:
                unread = _still_unread(pool, where, unread)
            retained_sizes = pool.map(lambda s: retained_bytes(where.databases[s]), reachable)
            notable = {
                s: size
                for s, size in zip(reachable, retained_sizes, strict=True)
                if s in unread or size > RETAINED_LIMIT
            }
            retained = {f"{service}-db": size for service, size in notable.items()}
            if tasks and (complaint := task_problem or _unread(unread)):
                complaints["connect"] = complaint
    serious = {name: complaint for name, complaint in complaints.items() if name not in observers}
    overall = _overall(state, components, serious)
    control_plane = state.control_plane if Gateway.name in components else ""
    return LabStatus(
        backend.mode,
        overall,
        where,
        components,
        complaints,
        state.switches,
        retained,
        control_plane,
        absent or Absent(),
    )


def _overall(state: LabState, components: dict[str, ComponentStatus], complaints: dict[str, str]) -> State:
    if state.phase == "starting" and state.keeper and state.keeper.process():
        return "starting"
    if all(component.state in ("stopped", "failed") for component in components.values()):
        return "stopped"
    return "degraded" if complaints else "ready"


def _query_service(url: str) -> str:
    # On an overloaded machine a health check sometimes exceeds its half second, so retry once.
    return _query_once(url) and _query_once(url)


def _query_once(url: str) -> str:
    try:
        answer = http.get(f"{url}/healthz/ready", timeout=2).json()
    except (httpx.HTTPError, ValueError):
        return "does not answer"
    if answer.get("status") == "ready":
        return ""
    checks = answer.get("checks", {})
    broken = [name for name, check in checks.items() if check not in (True, "ok")] if isinstance(checks, dict) else []
    return f"{answer.get('status', 'not ready')}: {', '.join(broken)}" if broken else "not ready"


def _still_unread(pool: ThreadPoolExecutor, where: Endpoints, services: list[str]) -> list[str]:
    # After a start Debezium reads a slot twice: first up to the position where it stopped, which can take until the
    # next order, then from there on. In between the slot is inactive (50 to 900 ms measured).
    answers = pool.map(lambda s: poll_until(lambda: slot_is_read(where.databases[s]), 2, interval=0.05), services)
    return [s for s, is_read in zip(services, answers, strict=True) if not is_read]


def _unread(services: list[str]) -> str:
    # A connector and its task stay RUNNING long after they have lost their slot.
    return f"no connector reads the slot of {', '.join(services)}" if services else ""


def _query_connectors(where: Endpoints, services: list[str]) -> str:
    try:
        tasks = Relay(where.connect).task_states()
    except (httpx.HTTPError, ValueError, LookupError):
        return "does not answer"
    missing = {s: tasks.get(connector_name(s), "MISSING") for s in services}
    wrong = [f"{connector_name(s)} is {state}" for s, state in missing.items() if state != "RUNNING"]
    return "; ".join(wrong)
