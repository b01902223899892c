"""The status of a lab: inspect every component once, and derive the overall state."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import httpx

from labstack.backends.base import Backend, ComponentStatus, Endpoints
from labstack.backends.components import Component, Gateway
from labstack.clients import http, transactions
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.clients.relay import Relay, connector_name
from labstack.clients.replication import SlotState, read_slot
from labstack.errors import LabError
from labstack.lifecycle.obtaining import Absent
from labstack.state import LabState
from labstack.waiting import answers, poll_until

State = Literal["ready", "starting", "degraded", "stopped"]

RETAINED_LIMIT = 16 * 1024 * 1024
"""Bytes of write-ahead log retained for Debezium above which the status reports them even while Debezium reads."""


@dataclass(frozen=True)
class LabStatus:
    """A snapshot of the lab's status.

    Attributes
    ----------
    mode : str
        Backend of the lab: ``local``, ``containers`` or ``kubernetes``.
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
        Control plane of the gateway: ``istiod``, ``translator`` or ``cluster``; empty if `components` has no gateway.
    absent : Absent
        Optional programs that the lab does not have, such as Grafana, and the progress of their downloads.
    left_out : tuple of str
        Figures that took longer than `TIME_LIMIT`, such as ``memory of kafka``; usually empty.
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
    left_out: tuple[str, ...] = ()

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
                    "pods": list(component.pods) or None,
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
        if complaint := self.complaints.get("lab"):
            result["complaint"] = complaint
        if self.left_out:
            result["left_out"] = list(self.left_out)
        if self.absent.downloading:
            result["coming"] = self.absent.downloading
        if self.absent.failed:
            result["not_fetched"] = list(self.absent.failed)
        return result


TIME_LIMIT = 2.0
"""Seconds for all queries of a status together. On an overloaded machine, the status omits the slower ones."""


def inspect_lab(backend: Backend, *, memory: bool, absent: Absent | None = None) -> LabStatus:
    """Inspect every component, and query those that run, all at once and for at most `TIME_LIMIT` seconds."""
    state, names, observers = backend.state, backend.components(), set(backend.observers())
    expected = {*backend.required(), *observers}
    with ThreadPoolExecutor(12) as pool:
        components = dict(zip(names, pool.map(backend.inspect, names), strict=True))
    # Hide optional components until they are started.
    components = {n: c for n, c in components.items() if n in expected or c.state != "stopped"}
    where = backend.endpoints()
    complaints: dict[str, str] = {n: c.state for n, c in components.items() if c.state != "running"}
    running = [n for n in components if n not in complaints]
    slots: dict[str, SlotState] = {}
    questions = _questions(backend, where, running, slots, memory=memory) if running and where.connect else {}
    found = answers(questions, TIME_LIMIT)
    for name in running:
        if memory and ("memory", name) in found:
            components[name] = replace(components[name], rss_bytes=found["memory", name])
    for kind, name in questions:
        late = f"no answer within {TIME_LIMIT:.0f} s" if kind == "complaint" else ""
        if kind in ("complaint", "transactions") and (complaint := found.get((kind, name), late)):
            complaints[name] = complaint
    unread = [name for kind, name in questions if kind == "slot" and found.get((kind, name)) is False]
    if "connect" in running and "connect" not in complaints and unread:
        # A connector and its task stay RUNNING long after they have lost their slot.
        complaints["connect"] = f"no connector reads the slot of {', '.join(unread)}"
    sizes = {service: slot.retained_bytes for service, slot in slots.copy().items()}
    retained = {f"{s}-db": size for s, size in sizes.items() if size and (s in unread or size > RETAINED_LIMIT)}
    serious = {name: complaint for name, complaint in complaints.items() if name not in observers}
    return LabStatus(
        backend.mode,
        _overall(state, components, serious),
        where,
        components,
        complaints | ({"lab": f"{left[0]}. {left[1]}."} if (left := unfinished(state)) else {}),
        state.switches,
        retained,
        state.control_plane if Gateway.name in components else "",
        absent or Absent(),
        tuple(f"{kind} of {name}" for kind, name in questions if kind != "complaint" and (kind, name) not in found),
    )


def _questions(
    backend: Backend, where: Endpoints, running: list[str], slots: dict[str, SlotState], *, memory: bool
) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return the questions about running components, by kind and component; a complaint is empty if all is well.

    The question about a slot stores each state that it reads in ``slots``, so that the last one is known even if the
    question takes too long.
    """
    services = {**where.services, **where.versions}
    questions: dict[tuple[str, str], Callable[[], Any]] = {}
    for name in running:
        if memory:
            questions["memory", name] = partial(_memory, backend, name)
        if name in services:
            questions["complaint", name] = partial(_query_service, services[name])
        elif name in backend.observers():
            questions["complaint", name] = partial(_query_observer, backend.component(name))
    checks = {
        Gateway.name: lambda: _query_gateway(where.envoy_admin),
        "connect": lambda: _query_connectors(where, list(where.services)),
    }
    questions |= {("complaint", name): check for name, check in checks.items() if name in running}
    if "kafka" in running:
        questions["transactions", "kafka"] = partial(_query_transactions, where)
    for service, url in where.databases.items():
        if f"{service}-db" in running:
            questions["slot", service] = partial(_slot_is_read, url, slots, service, wait="connect" in running)
    return questions


def _memory(backend: Backend, name: str) -> int | None:
    return backend.inspect(name, memory=True).rss_bytes


def _overall(state: LabState, components: dict[str, ComponentStatus], complaints: dict[str, str]) -> State:
    if _is_changing(state) and state.phase == "starting":
        return "starting"
    if all(component.state in ("stopped", "failed") for component in components.values()):
        return "stopped"
    return "degraded" if complaints or unfinished(state) else "ready"


def _is_changing(state: LabState) -> bool:
    return bool(state.keeper and state.keeper.process())


def unfinished(state: LabState) -> tuple[str, str] | None:
    """Return the unfinished work of an earlier command, and how to finish it; None if everything is finished."""
    if _is_changing(state) and state.phase != "incomplete":
        return None
    if state.unfinished_reset:
        return "A reset was interrupted", "Run `lab up`: it completes the reset"
    if state.phase in ("starting", "incomplete"):
        return "The last start did not finish", "Run `lab up`: it continues from there"
    return None


def _query_service(url: str) -> str:
    # On an overloaded machine a health check sometimes exceeds its half second, so retry once.
    return _query_once(url) and _query_once(url)


def _query_once(url: str) -> str:
    try:
        answer = http.get(f"{url}/healthz/ready", timeout=TIME_LIMIT).json()
    except (httpx.HTTPError, ValueError):
        return "does not answer"
    if answer.get("status") == "ready":
        return _query_consumer(url)
    checks = answer.get("checks", {})
    broken = [name for name, check in checks.items() if check not in (True, "ok")] if isinstance(checks, dict) else []
    return f"{answer.get('status', 'not ready')}: {', '.join(broken)}" if broken else "not ready"


def _query_consumer(url: str) -> str:
    try:
        state = http.get(f"{url}/manage/consumer", timeout=TIME_LIMIT).json().get("state")
    except (httpx.HTTPError, ValueError):
        return "does not answer"
    return f"consumer {state}" if state in ("paused", "stuck") else ""


def _slot_is_read(url: str, slots: dict[str, SlotState], service: str, *, wait: bool) -> bool:
    # After a start Debezium reads a slot twice. First it reads up to the position where it stopped; this can last until
    # the next order. Then it reads on from there. In between the slot is inactive (50 to 900 ms measured).
    def is_read() -> bool:
        slots[service] = read_slot(url)
        return slots[service].is_read

    return bool(poll_until(is_read, 0.75 * TIME_LIMIT if wait else 0, interval=0.05))


def _query_observer(observer: Component) -> str:
    return "" if observer.is_ready() else "does not answer"


def _query_gateway(admin_url: str) -> str:
    if EnvoyAdmin(admin_url).listens():
        return ""
    return "has no listener; `lab mesh reset` restores the lab's own configuration"


def _query_transactions(where: Endpoints) -> str:
    try:
        topics = [f"{service}.{kind}" for service in where.services for kind in ("events", "dlq")]
        hanging = transactions.find_open(where.kafka, topics, older_than=transactions.PATIENCE)
    except LabError:
        return "does not answer"
    found = "; ".join(map(str, hanging))
    return f"{found}: no consumer reads beyond it; `lab up` aborts it, or the broker after a minute" if found else ""


def _query_connectors(where: Endpoints, services: list[str]) -> str:
    try:
        tasks = Relay(where.connect).task_states()
    except (httpx.HTTPError, ValueError, LookupError):
        return "does not answer"
    missing = {s: tasks.get(connector_name(s), "MISSING") for s in services}
    wrong = [f"{connector_name(s)} is {state}" for s, state in missing.items() if state != "RUNNING"]
    return "; ".join(wrong)
