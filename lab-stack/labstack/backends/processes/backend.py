"""The local backend: components as processes, recorded in the state file."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

import psutil

from labstack.backends.base import ComponentStatus
from labstack.backends.common import BackendBase, observer_classes
from labstack.backends.processes import foreground, process
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.connect_watcher import ConnectWatcher
from labstack.backends.processes.components.envoy import Envoy
from labstack.backends.processes.components.istiod import Istiod
from labstack.backends.processes.components.kafka import Kafka
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.components.service import Service
from labstack.backends.processes.following import follow
from labstack.backends.processes.forking import ForkServer
from labstack.backends.processes.java.java_component import JavaComponent
from labstack.backends.processes.java.programs import prepare_programs
from labstack.backends.processes.leftovers import leftovers
from labstack.clients.database_server import DatabaseServer
from labstack.errors import (
    ComponentFailed,
    LabError,
    NotRunning,
    PortTaken,
    StorageError,
    code_advice,
    failure_log,
    log_tail,
    one_of,
)
from labstack.ports import free as ports
from labstack.ports.plan import planned_ports
from labstack.process_id import ProcessId, ask, this_process, with_children
from labstack.progress import Progress
from labstack.state import ComponentRecord, LabState, remove_tree
from labstack.waiting import poll_until

OBSERVERS = observer_classes("labstack.backends.processes.components")


class LocalBackend(BackendBase[Component]):
    """Run the components of one lab as local processes."""

    mode = "local"

    def _make_components(self) -> list[Component]:
        state = self.state
        context = Context(
            self.paths,
            self._ports,
            state.switches,
            observed=state.observed,
            observers=tuple(state.observers),
            addresses=self.addresses,
        )
        databases = [Postgres(context, service) for service in self.services]
        connect = Connect(context)
        connect.databases = databases
        istiod = Istiod(context, self.mesh_documents) if state.control_plane == "istiod" else None
        return [
            *databases,
            Kafka(context),
            connect,
            ConnectWatcher(context, connect, databases),
            *(Service(context, s, database) for s, database in zip(self.services, databases, strict=True)),
            *([istiod] if istiod else []),
            Envoy(context, istiod, self.mesh_documents),
            *(
                Service(context, service, database, version)
                for service, database in zip(self.services, databases, strict=True)
                for version in service.versions
            ),
            *(observer(context) for observer in OBSERVERS if observer.name in context.observers),
        ]

    def prepare(self, progress: Progress) -> None:
        prepare_programs(self.paths, self.state.lab_id, progress)
        # Leftover processes would still occupy the ports and data folders.
        process.destroy(
            [running_process for found in leftovers(self.state) for running_process in with_children(found)]
        )
        self._choose_ports(progress)

    def _choose_ports(self, progress: Progress) -> None:
        """Choose every component's port: the usual one if free, else another.

        While any component runs, all keep their ports.
        """
        state = self.state
        usual = {key: number for component in self._components.values() for key, number in component.ports.items()}
        if state.observed:
            # Reserve ports for observers that start later: the services need to know where to send spans.
            usual |= {key: number for observer in OBSERVERS for key, number in observer.ports.items()}
        with planned_ports(usual, state.ports, self._reservations, progress, keep=_any_component_runs(state)) as chosen:
            self._ports.update(chosen)
            self.update(ports=dict(self._ports))
            self._reserve_ports()

    def _reserve_ports(self) -> None:
        """Reserve this lab's ports for as long as a component or the current process runs."""
        held_by = [record.process for record in self.state.components.values() if record.process]
        self._reservations.reserve(self.state.ports.values(), [this_process(), *held_by])

    def launch(self, name: str) -> None:
        component = self.component(name)
        record = self.state.components.get(name)
        if record and process.alive(record.process):
            return
        lab_id = self.state.lab_id
        # Processes of an earlier run, such as database backends whose parent was killed, would block this start.
        if record:
            process.destroy([*process.lab_processes(lab_id, name), *process.working_in(self.paths.data(name))])
            if record.process:
                component.on_exit(record.process.pid)
        for key in component.ports:
            self._wait_for_port(name, self._ports[key])
        command, forks = component.prepare(), ForkServer(self.paths, lab_id)
        spawn = forks.spawn if command.by_fork else process.spawn
        identity = spawn(command, component.log, f"{lab_id}/{name}")
        try:
            self._record(name, ComponentRecord(identity))
        except StorageError:
            process.destroy(process.tree(identity))  # no later command would know about it
            raise
        forks.start()  # imports the libraries while the services' dependencies start

    def launch_here(self, name: str, argv: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        component = self.component(name)
        if not isinstance(component, Service):
            raise LabError(
                f"{name} is not a service, so it can't run in this terminal.",
                next_step=one_of(name, [service.name for service in self.services]),
            )
        command = foreground.in_terminal(component.prepare(), argv)
        self._stop_process(name)
        self._wait_for_port(name, component.port)
        child = foreground.spawn(command, f"{self.state.lab_id}/{name}")
        self._record(name, ComponentRecord(ProcessId.of(child.pid)))
        return child

    def _wait_for_port(self, name: str, port: int) -> None:
        # While a component of this lab runs, the lab owns its ports, even if another lab has reserved them since.
        is_reserved = port in self._reservations.held_by_others() and not _any_component_runs(self.state)
        if is_reserved or not poll_until(lambda: ports.is_free(port), 3):
            holder = "another lab" if is_reserved else ports.who_listens(port)
            raise PortTaken(
                f"{name} can't listen on port {port}, because {holder} uses it.",
                next_step=f"stop that program, or run `lab down` and `lab up`; {name} then uses another port",
            )

    def _record(self, name: str, record: ComponentRecord) -> None:
        with self._state_lock:
            super()._record(name, record)
            self._reserve_ports()

    def await_ready(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        component = self.component(name)
        record = self.state.components.get(name)
        if record is None or record.process is None:
            raise NotRunning(f"{name} was not started.", next_step=f"run `lab start {name}`")
        identity = record.process

        def still_alive() -> None:
            meanwhile()
            if not process.alive(identity):
                log = failure_log(component.log)
                raise ComponentFailed(
                    f"{name} exited during startup.",
                    log=log,
                    next_step=code_advice(log, name) or f"read the whole log in {component.log}, or run `lab doctor`",
                )

        def is_ready() -> bool:
            # Another user's lab may have taken the port since it was chosen. Its broker would then answer here, and
            # this lab's Connect would join that lab's group.
            return component.is_ready() and (
                not isinstance(component, JavaComponent) or process.listens(identity, component.port)
            )

        if not poll_until(is_ready, component.timeout, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} runs, but did not become ready within {component.timeout:.0f} s.",
                log=failure_log(component.log),
                next_step=f"read the whole log in {component.log}; on a slow host, run `lab up` again",
            )
        component.settle()
        component.on_ready(identity.pid)

    def prepare_for_observer(self, observer: str) -> None:
        for name, component in self._components.items():
            record = self.state.components.get(name)
            if isinstance(component, JavaComponent) and record and process.alive(record.process):
                assert record.process
                component.on_ready(record.process.pid)  # loads the agent that exposes MBeans to Prometheus

    def _process(self, name: str) -> ProcessId:
        self.component(name)
        record = self.state.components.get(name)
        if record is None or record.process is None or not process.alive(record.process):
            raise NotRunning(
                f"{name} is not running.", next_step=f"run `lab start {name}`, or `lab up` to start the whole lab"
            )
        return record.process

    def stop(self, name: str) -> None:
        self._stop_process(name)
        self._record(name, ComponentRecord(None, stopped_on_purpose=True))

    def _stop_process(self, name: str) -> None:
        component = self.component(name)
        record = self.state.components.get(name)
        if not record or not record.process:
            return
        if process.alive(record.process):
            stop_signal = signal.SIGINT if isinstance(component, Postgres) else signal.SIGTERM
            process.end(record.process, stop_signal, component.grace)
        component.on_exit(record.process.pid)

    def kill(self, name: str) -> None:
        identity = self._process(name)
        process.destroy(process.tree(identity))
        self.component(name).on_exit(identity.pid)

    def pause(self, name: str) -> None:
        processes = process.tree(self._process(name))
        process.send(processes, signal.SIGSTOP)
        self._await_paused(processes, paused=True)

    def resume(self, name: str) -> None:
        processes = process.tree(self._process(name))
        process.send(processes[::-1], signal.SIGCONT)
        self._await_paused(processes, paused=False)

    def reload(self, name: str) -> None:
        process.send(process.tree(self._process(name))[:1], signal.SIGHUP)

    def _await_paused(self, processes: list[psutil.Process], *, paused: bool) -> None:
        """Wait until the system has paused or resumed every process."""

        def all_changed() -> bool:
            # A process that has ended meanwhile counts as changed.
            wanted = psutil.STATUS_STOPPED if paused else None
            states = [ask(running_process.status, wanted) for running_process in processes]
            return all((state == psutil.STATUS_STOPPED) == paused for state in states)

        poll_until(all_changed, 5, interval=0.005)

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        component = self.component(name)
        record = self.state.components.get(name)
        log = str(component.log)
        running = record.process.process() if record and record.process else None
        if record is None or (running is None and record.process is None):
            return ComponentStatus("stopped", log=log)
        if running is None:
            return ComponentStatus("failed", log=log)
        paused = ask(running.status, "") == psutil.STATUS_STOPPED
        return ComponentStatus(
            "paused" if paused else "running",
            pid=running.pid,
            rss_bytes=process.memory(record.process) if memory else None,
            log=log,
        )

    def database_for_connect(self, service: str) -> DatabaseServer:
        return self.database_server(service)

    def spans(self, service: str) -> str:
        self.component(service)
        try:
            return self.paths.spans(service).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def log(self, name: str, lines: int) -> str:
        return log_tail(self.component(name).log, lines)

    def follow(self, name: str) -> Iterator[str]:
        return follow(self.component(name).log)

    def down(self) -> None:
        self._stop_in_order(self._stop_process)
        process.destroy(process.lab_processes(self.state.lab_id))
        process.destroy(process.working_in(self.paths.state / "data"))
        self._record_shutdown()

    def purge(self) -> None:
        for folder in ("data", "config", "logs"):
            remove_tree(self.paths.state / folder)


def _any_component_runs(state: LabState) -> bool:
    """Report whether any component of the lab runs."""
    return any(process.alive(record.process) for record in state.components.values())
