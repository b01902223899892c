"""Local mode: components as processes, noted in the state file."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import psutil

from labstack import ports
from labstack.backend import ComponentStatus, Endpoints, named
from labstack.claims import PortClaims
from labstack.errors import (
    ComponentFailed,
    NotRunning,
    PortTaken,
    StorageTrouble,
    log_of_a_death,
    log_tail,
)
from labstack.local import process
from labstack.local.component import Component, Site
from labstack.local.connect import Connect
from labstack.local.connect_watcher import ConnectWatcher
from labstack.local.kafka import Kafka
from labstack.local.postgres import Postgres
from labstack.local.programs import prepare_programs
from labstack.local.service import Service
from labstack.paths import LabPaths
from labstack.port_plan import planned_ports
from labstack.progress import Progress
from labstack.services import ServiceEntry
from labstack.state import ComponentRecord, LabState, StateStore, me, remove_tree
from labstack.waiting import wait_until


class LocalBackend:
    """The components of one lab as local processes.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    store : StateStore
        Its state file. Changing verbs expect the caller to hold the store's lock.
    services : tuple of ServiceEntry
        Which services there are.
    """

    mode = "local"

    def __init__(self, paths: LabPaths, store: StateStore, services: tuple[ServiceEntry, ...]) -> None:
        self.paths = paths
        self.store = store
        self.services = services
        self._ports: dict[str, int] = dict(store.read().ports)
        self._writing = threading.Lock()

    @cached_property
    def _components(self) -> dict[str, Component]:
        site = Site(self.paths, self._ports, self.store.read().switches)
        databases = [Postgres(site, service) for service in self.services]
        connect = Connect(site)
        parts: list[Component] = [
            *databases,
            Kafka(site),
            connect,
            ConnectWatcher(site, connect, databases),
            *(Service(site, s, database) for s, database in zip(self.services, databases, strict=True)),
        ]
        return {part.name: part for part in parts}

    def component(self, name: str) -> Component:
        """Return a component by name.

        Raises
        ------
        UnknownComponent
            There is none of that name; says which there are.
        """
        return named(name, self._components)

    def components(self) -> list[str]:
        return list(self._components)

    def prepare(self, progress: Progress) -> None:
        prepare_programs(self.paths, self.store.read().lab_id, progress)
        self._choose_ports(progress)

    def _choose_ports(self, progress: Progress) -> None:
        """Give every component its usual port if that is free, else another; while any runs, all keep their ports."""
        state = self.store.read()
        running = {n for n, record in state.components.items() if process.alive(record.process)}
        usual = {key: number for part in self._components.values() for key, number in part.ports.items()}
        with planned_ports(usual, state.ports if running else {}, self._claims, progress) as chosen:
            self._ports.update(chosen)
            with self._writing:
                state = self.store.read()
                state.ports = dict(self._ports)
                self.store.write(state)
                self._claim(state)

    @property
    def _claims(self) -> PortClaims:
        return PortClaims(self.store.lab_id)

    def _claim(self, state: LabState) -> None:
        """Hold this lab's ports for as long as any part of it lives, and whoever starts it now."""
        held_by = [record.process for record in state.components.values() if record.process]
        self._claims.hold(state.ports.values(), [me(), *held_by])

    def launch(self, name: str) -> None:
        component = self.component(name)
        record = self.store.read().components.get(name)
        if record and process.alive(record.process):
            return
        lab_id = self.store.read().lab_id
        # What an earlier life left behind (a database's backends whose parent was killed) would be in the way.
        if record:
            process.destroy([*process.strays(lab_id, name), *process.working_in(self.paths.data(name))])
        for key in component.ports:
            self._wait_for_port(name, self._ports[key])
        identity = process.spawn(component.prepare(), component.log, f"{lab_id}/{name}")
        self._note(name, ComponentRecord(identity))

    def _wait_for_port(self, name: str, port: int) -> None:
        lent = port in self._claims.of_others()
        if lent or not wait_until(lambda: ports.is_free(port), 3):
            holder = "another lab" if lent else ports.who_listens(port)
            raise PortTaken(
                f"{name} wants to listen on port {port}, but {holder} does.",
                next_step=f"end that program, or run `lab down` and `lab up`, which gives {name} another port",
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
            raise NotRunning(f"{name} was not started.", next_step=f"`lab start {name}` starts it")

        def still_alive() -> None:
            meanwhile()
            if not process.alive(record.process):
                raise ComponentFailed(
                    f"{name} died while it was starting.",
                    log=log_of_a_death(component.log),
                    next_step=f"the whole log is in {component.log}; `lab doctor` checks this machine",
                )

        if not wait_until(component.is_ready, component.timeout, interval=0.03, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} runs, but did not become ready within {component.timeout:.0f} s.",
                log=log_of_a_death(component.log),
                next_step=f"the whole log is in {component.log}; a tired machine may need another try: `lab up`",
            )

    def _process(self, name: str) -> process.ProcessId:
        self.component(name)
        record = self.store.read().components.get(name)
        if record is None or record.process is None or not process.alive(record.process):
            raise NotRunning(
                f"{name} is not running.", next_step=f"`lab start {name}` starts it, `lab up` the whole lab"
            )
        return record.process

    def stop(self, name: str) -> None:
        self._end(name)
        self._note(name, ComponentRecord(None, stopped_on_purpose=True))

    def _end(self, name: str) -> None:
        component = self.component(name)
        record = self.store.read().components.get(name)
        if record and record.process and process.alive(record.process):
            how = signal.SIGINT if isinstance(component, Postgres) else signal.SIGTERM
            process.end(record.process, how, component.grace)

    def kill(self, name: str) -> None:
        process.destroy(process.tree(self._process(name)))

    def pause(self, name: str) -> None:
        family = process.tree(self._process(name))
        process.send(family, signal.SIGSTOP)
        self._await_paused(family, paused=True)

    def resume(self, name: str) -> None:
        family = process.tree(self._process(name))
        process.send(family[::-1], signal.SIGCONT)
        self._await_paused(family, paused=False)

    def _await_paused(self, family: list[psutil.Process], *, paused: bool) -> None:
        """Wait until the system has done what a signal asked for."""

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

    def endpoints(self) -> Endpoints:
        parts = self._components
        if not all(key in self._ports for part in parts.values() for key in part.ports):
            return Endpoints()
        kafka, connect = parts["kafka"], parts["connect"]
        assert isinstance(kafka, Kafka)
        assert isinstance(connect, Connect)
        return Endpoints(
            services={name: part.url for name, part in parts.items() if isinstance(part, Service)},
            databases={part.service.name: part.url for part in parts.values() if isinstance(part, Postgres)},
            kafka=kafka.address,
            connect=connect.url,
        )

    def database_for_connect(self, service: str) -> str:
        return self.endpoints().databases[service]

    def log(self, name: str, lines: int) -> str:
        return log_tail(self.component(name).log, lines)

    def down(self) -> None:
        order = (
            [n for n in self._components if isinstance(self._components[n], Service | ConnectWatcher)],
            ["connect"],
            ["kafka"],
        )
        databases = [n for n in self._components if isinstance(self._components[n], Postgres)]
        with ThreadPoolExecutor(8) as pool:
            for group in (*order, databases):
                list(pool.map(self._end, group))
        process.destroy(process.strays(self.store.read().lab_id))
        process.destroy(process.working_in(self.paths.state / "data"))
        state = self.store.read()
        state.components = dict.fromkeys(self._components, ComponentRecord(None, stopped_on_purpose=True))
        with contextlib.suppress(StorageTrouble):
            self.store.write(state)
        self._claims.release()

    def purge(self) -> None:
        for folder in ("data", "config", "logs"):
            remove_tree(self.paths.state / folder)
