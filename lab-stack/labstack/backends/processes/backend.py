"""The local backend: components as processes, recorded in the state file."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import psutil

from labstack.backends.base import ComponentStatus
from labstack.backends.common import BackendBase
from labstack.backends.processes import process
from labstack.backends.processes.component import Component, Site
from labstack.backends.processes.components.connect import Connect
from labstack.backends.processes.components.connect_watcher import ConnectWatcher
from labstack.backends.processes.components.envoy import Envoy
from labstack.backends.processes.components.grafana import Grafana
from labstack.backends.processes.components.istiod import Istiod
from labstack.backends.processes.components.jaeger import Jaeger
from labstack.backends.processes.components.kafka import Kafka
from labstack.backends.processes.components.postgres import Postgres
from labstack.backends.processes.components.prometheus import Prometheus
from labstack.backends.processes.components.service import Service
from labstack.backends.processes.following import follow
from labstack.backends.processes.forking import ForkServer
from labstack.backends.processes.java.java_component import JavaComponent
from labstack.backends.processes.java.programs import prepare_programs
from labstack.backends.processes.leftovers import leftovers
from labstack.errors import ComponentFailed, NotRunning, PortTaken, advice_on_code, log_of_a_death, log_tail
from labstack.ports import free as ports
from labstack.ports.plan import planned_ports
from labstack.progress import Progress
from labstack.state import ComponentRecord, LabState, me, remove_tree
from labstack.waiting import wait_until

OBSERVERS = (Prometheus, Jaeger, Grafana)


class LocalBackend(BackendBase[Component]):
    """Run the components of one lab as local processes."""

    mode = "local"

    def _make_components(self) -> list[Component]:
        state = self.store.read()
        site = Site(self.paths, self._ports, state.switches, observed=state.observed, observers=tuple(state.observers))
        databases = [Postgres(site, service) for service in self.services]
        connect = Connect(site)
        istiod = Istiod(site, self.mesh_documents) if state.control_plane == "istiod" else None
        return [
            *databases,
            Kafka(site),
            connect,
            ConnectWatcher(site, connect, databases),
            *(Service(site, s, database) for s, database in zip(self.services, databases, strict=True)),
            *([istiod] if istiod else []),
            Envoy(site, istiod, self.mesh_documents),
            *(
                Service(site, service, database, version)
                for service, database in zip(self.services, databases, strict=True)
                for version in service.versions
            ),
            *self._observers(site, *OBSERVERS),
        ]

    def prepare(self, progress: Progress) -> None:
        state = self.store.read()
        prepare_programs(self.paths, state.lab_id, progress)
        # Leftover processes would still occupy the ports and data folders.
        process.destroy([one for found in leftovers(state) for one in process.with_children(found)])
        self._choose_ports(progress)

    def _choose_ports(self, progress: Progress) -> None:
        """Choose every component's port: the usual one if free, else another.

        While any component runs, all keep their ports.
        """
        state = self.store.read()
        usual = {key: number for part in self._components.values() for key, number in part.ports.items()}
        if state.observed:
            # Reserve ports for observers that start later: the services need to know where to send spans.
            usual |= {key: number for observer in OBSERVERS for key, number in observer.ports.items()}
        with planned_ports(usual, state.ports, self._claims, progress, keep=_lives(state)) as chosen:
            self._ports.update(chosen)
            with self._writing:
                state = self.store.read()
                state.ports = dict(self._ports)
                self.store.write(state)
                self._claim(state)

    def _claim(self, state: LabState) -> None:
        """Reserve this lab's ports for as long as a component or the current process runs."""
        held_by = [record.process for record in state.components.values() if record.process]
        self._claims.hold(state.ports.values(), [me(), *held_by])

    def launch(self, name: str) -> None:
        component = self.component(name)
        record = self.store.read().components.get(name)
        if record and process.alive(record.process):
            return
        lab_id = self.store.read().lab_id
        # Processes of an earlier run, such as database backends whose parent was killed, would block this start.
        if record:
            process.destroy([*process.strays(lab_id, name), *process.working_in(self.paths.data(name))])
            if record.process:
                component.ended(record.process.pid)
        for key in component.ports:
            self._wait_for_port(name, self._ports[key])
        command, forks = component.prepare(), ForkServer(self.paths, lab_id)
        spawn = forks.spawn if command.by_fork else process.spawn
        identity = spawn(command, component.log, f"{lab_id}/{name}")
        self._note(name, ComponentRecord(identity))
        forks.start()  # imports the libraries while the services' dependencies start

    def _wait_for_port(self, name: str, port: int) -> None:
        # While a component of this lab runs, the lab owns its ports, even if another lab has reserved them since.
        lent = port in self._claims.of_others() and not _lives(self.store.read())
        if lent or not wait_until(lambda: ports.is_free(port), 3):
            holder = "another lab" if lent else ports.who_listens(port)
            raise PortTaken(
                f"{name} can't listen on port {port}, because {holder} uses it.",
                next_step=f"stop that program, or run `lab down` and `lab up`; {name} then uses another port",
            )

    def _note(self, name: str, record: ComponentRecord) -> None:
        with self._writing:
            state = self.store.read()
            state.components[name] = record
            self.store.write(state)
            self._claim(state)

    def await_ready(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        component = self.component(name)
        record = self.store.read().components.get(name)
        if record is None or record.process is None:
            raise NotRunning(f"{name} was not started.", next_step=f"run `lab start {name}`")

        def still_alive() -> None:
            meanwhile()
            if not process.alive(record.process):
                log = log_of_a_death(component.log)
                raise ComponentFailed(
                    f"{name} died while it was starting.",
                    log=log,
                    next_step=advice_on_code(log, name)
                    or f"read the whole log in {component.log}, or run `lab doctor`",
                )

        if not wait_until(component.is_ready, component.timeout, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} runs, but did not become ready within {component.timeout:.0f} s.",
                log=log_of_a_death(component.log),
                next_step=f"read the whole log in {component.log}; on a slow host, run `lab up` again",
            )
        component.settle()
        component.began(record.process.pid)

    def introduce(self, observer: str) -> None:
        for name, part in self._components.items():
            record = self.store.read().components.get(name)
            if isinstance(part, JavaComponent) and record and process.alive(record.process):
                assert record.process
                part.began(record.process.pid)  # loads the agent that exposes MBeans to Prometheus

    def _process(self, name: str) -> process.ProcessId:
        self.component(name)
        record = self.store.read().components.get(name)
        if record is None or record.process is None or not process.alive(record.process):
            raise NotRunning(
                f"{name} is not running.", next_step=f"run `lab start {name}`, or `lab up` to start the whole lab"
            )
        return record.process

    def stop(self, name: str) -> None:
        self._end(name)
        self._note(name, ComponentRecord(None, stopped_on_purpose=True))

    def _end(self, name: str) -> None:
        component = self.component(name)
        record = self.store.read().components.get(name)
        if not record or not record.process:
            return
        if process.alive(record.process):
            how = signal.SIGINT if isinstance(component, Postgres) else signal.SIGTERM
            process.end(record.process, how, component.grace)
        component.ended(record.process.pid)

    def kill(self, name: str) -> None:
        victim = self._process(name)
        process.destroy(process.tree(victim))
        self.component(name).ended(victim.pid)

    def pause(self, name: str) -> None:
        family = process.tree(self._process(name))
        process.send(family, signal.SIGSTOP)
        self._await_paused(family, paused=True)

    def resume(self, name: str) -> None:
        family = process.tree(self._process(name))
        process.send(family[::-1], signal.SIGCONT)
        self._await_paused(family, paused=False)

    def _await_paused(self, family: list[psutil.Process], *, paused: bool) -> None:
        """Wait until the system has paused or resumed every process."""

        def all_are() -> bool:
            with contextlib.suppress(psutil.NoSuchProcess):
                return all((one.status() == psutil.STATUS_STOPPED) == paused for one in family)
            return True

        wait_until(all_are, 5, interval=0.005)

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        component = self.component(name)
        record = self.store.read().components.get(name)
        log = str(component.log)
        living = record.process.process() if record and record.process else None
        if record is None or (living is None and record.process is None):
            return ComponentStatus("stopped", log=log)
        if living is None:
            return ComponentStatus("failed", log=log)
        paused = living.status() == "stopped"
        return ComponentStatus(
            "paused" if paused else "running",
            pid=living.pid,
            rss_bytes=process.memory(record.process) if memory else None,
            log=log,
        )

    def database_for_connect(self, service: str) -> str:
        return self.endpoints().databases[service]

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
        self._end_in_order(self._end)
        process.destroy(process.strays(self.store.read().lab_id))
        process.destroy(process.working_in(self.paths.state / "data"))
        self._note_the_end()

    def purge(self) -> None:
        for folder in ("data", "config", "logs"):
            remove_tree(self.paths.state / folder)


def _lives(state: LabState) -> bool:
    """Report whether any component of the lab runs."""
    return any(process.alive(record.process) for record in state.components.values())
