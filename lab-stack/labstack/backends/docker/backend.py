"""The container backend: components as containers, identified by their labels."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from docker.errors import APIError, NotFound
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer

from labstack.backends.base import ComponentState, ComponentStatus
from labstack.backends.common import BackendBase, observer_classes
from labstack.backends.docker.component import Component, Context
from labstack.backends.docker.components.connect import Connect
from labstack.backends.docker.components.connect_watcher import ConnectWatcher
from labstack.backends.docker.components.envoy import Envoy
from labstack.backends.docker.components.istiod import Istiod
from labstack.backends.docker.components.kafka import Kafka
from labstack.backends.docker.components.postgres import Postgres
from labstack.backends.docker.components.service import Service
from labstack.backends.docker.engine import elsewhere, engine, engine_address, translate_errors
from labstack.backends.docker.images import IMAGES, image, missing, pull, services_image
from labstack.backends.docker.location import is_out_of_reach
from labstack.backends.docker.network import Network
from labstack.clients.database_server import DatabaseServer
from labstack.errors import ComponentFailed, DownloadFailed, EngineUnavailable, LabError, NotRunning, code_advice
from labstack.observability import observers
from labstack.ports.plan import planned_ports
from labstack.process_id import this_process
from labstack.progress import Progress
from labstack.state import ComponentRecord, remove_tree
from labstack.waiting import poll_until

OBSERVERS = observer_classes("labstack.backends.docker.components")

LAB_LABEL = "saga-lab.lab"
COMPONENT_LABEL = "saga-lab.component"
SHARED_LABEL = "saga-lab.shared"
CHECK_INTERVAL = 0.5
"""Seconds between two checks of a starting container."""
REACH_INTERVAL = 3.0
"""Seconds between two checks of whether a starting container's port can be reached."""
FOLDER_LABEL = "saga-lab.folder"
"""The folder of the lab's state. If the folder does not exist, the lab does not either."""


class ContainerBackend(BackendBase[Component]):
    """Run the components of one lab as containers."""

    mode = "containers"

    @property
    def lab_id(self) -> str:
        return self.store.lab_id

    def _make_components(self) -> list[Component]:
        state = self.state
        context = Context(
            self.lab_id,
            self._ports,
            self.paths,
            state.switches,
            self._address,
            self.log,
            self._run,
            self._put,
            observed=state.observed,
            observers=tuple(state.observers),
            addresses=self.addresses,
        )
        databases = [Postgres(context, service) for service in self.services]
        kafka = Kafka(context)
        connect = Connect(context, kafka)
        connect.databases = databases
        istiod = Istiod(context, self.mesh_documents) if state.control_plane == "istiod" else None
        return [
            *databases,
            kafka,
            connect,
            ConnectWatcher(context, connect, databases),
            *(Service(context, s, database, kafka) for s, database in zip(self.services, databases, strict=True)),
            *([istiod] if istiod else []),
            Envoy(context, istiod, self.mesh_documents, self.paths.config(Envoy.name)),
            *(
                Service(context, service, database, kafka, version)
                for service, database in zip(self.services, databases, strict=True)
                for version in service.versions
            ),
            *(observer(context) for observer in OBSERVERS if observer.name in context.observers),
        ]

    # -- before a start --------------------------------------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        with progress.stage("images") as stage:
            without = {*observers.NAMES, *(() if Istiod.name in self._components else (Istiod.name,))}
            wanted = [name for name in IMAGES if name not in without]
            wanted += [name for name in self.observers() if self.component(name).image == image(name)]
            progress.note(stage, ", ".join(image(name) for name in wanted))
            if missing_images := missing(wanted):
                progress.report(_describe_requirements())
            for name in missing_images:
                try:
                    with progress.stage(f"pulling {image(name)}") as pulling:
                        pull(name, lambda text, pulling=pulling: progress.note(pulling, text))  # type: ignore[misc]
                except DownloadFailed as error:
                    if name not in observers.NAMES:
                        raise
                    self._disable_observer(name)
                    progress.report(f"the lab runs without {name}: {error.problem}")
        with progress.stage("the services' image"):
            services_image()
        self._choose_ports(progress)
        self._network.create()

    def _disable_observer(self, observer: str) -> None:
        """Run this lab without an observer until its next startup."""
        self.update(observers=[name for name in self.state.observers if name != observer])

    def _choose_ports(self, progress: Progress) -> None:
        is_running = any(found.status in ("running", "paused", "restarting") for found in self._containers())
        usual = {component.name: component.usual_port for component in self._components.values()}
        usual |= {
            name: host_port
            for component in self._components.values()
            for name, (host_port, _) in component.more_ports.items()
        }
        with planned_ports(usual, self.state.ports, self._reservations, progress, keep=is_running) as chosen:
            self._ports.update(chosen)
            self.update(ports=dict(self._ports))
            self._reservations.reserve(self._ports.values(), [this_process()])

    @property
    def _labels(self) -> dict[str, str]:
        return {LAB_LABEL: self.lab_id, FOLDER_LABEL: str(self.paths.state.absolute())}

    @property
    def _network(self) -> Network:
        return Network(self.lab_id, self._labels)

    def _address(self, name: str) -> str:
        """Return the IP address of a component. It never changes, so the gateway's configuration stays valid."""
        return self._network.address(self.components().index(name))

    def _run(self, name: str, command: list[str]) -> str:
        with translate_errors(f"a command can't be run in {name}"):
            output, _ = self._running(name).exec_run(command, demux=True).output
        return (output or b"").decode(errors="replace")

    def _put(self, name: str, folder: str, archive: bytes) -> None:
        with translate_errors(f"the files of {name} can't be written"):
            self._running(name).put_archive(folder, archive)

    # -- one component ---------------------------------------------------------------------------------------------

    def _container_name(self, name: str) -> str:
        return f"saga-lab-{self.lab_id}-{name}"

    def _containers(self) -> list[Container]:
        with translate_errors("the lab's containers can't be listed"):
            found = engine().containers.list(
                all=True, filters={"label": f"{LAB_LABEL}={self.lab_id}"}, ignore_removed=True
            )
            return list(found)

    def _container(self, name: str) -> Container | None:
        self.component(name)
        with translate_errors(f"{name} can't be inspected"):
            try:
                return engine().containers.get(self._container_name(name))
            except NotFound:
                return None

    def launch(self, name: str) -> None:
        component = self.component(name)
        before = self._container(name)
        if before is not None and before.status in ("running", "paused") and self._has_its_ports(before, component):
            return
        self._record(name, ComponentRecord())
        with translate_errors(f"{name} can't be started"):
            if before is not None:
                self._remove(before)
            with self._configured_container(component) as container:
                # A container exits at once if a host name that it needs does not resolve.
                for other in [name for name in component.depends_on if name in self._components]:
                    poll_until(lambda other=other: self._is_up_or_stopped(other), 20)  # type: ignore[misc]
                container.start()

    def launch_here(self, name: str, argv: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        self.component(name)
        raise LabError(
            f"{name} runs in a container, so it can't run in this terminal.",
            next_step="start a lab of plain processes: `LAB_NAME=mine LAB_MODE=local lab up`",
        )

    def _published(self, component: Component) -> dict[str, int]:
        """Return a component's ports on 127.0.0.1 by the ports in its container, in the engine's notation."""
        published = {component.inner_port: component.port}
        published |= {inner: self._ports[name] for name, (_, inner) in component.more_ports.items()}
        return {f"{inner}/tcp": port for inner, port in published.items()}

    def _has_its_ports(self, container: Container, component: Component) -> bool:
        """Report whether a container publishes the ports that the lab has now.

        After its own restart, the engine restarts some containers with their previous ports, while the lab may choose
        others.
        """
        bindings = container.attrs["HostConfig"]["PortBindings"] or {}
        published = {
            inner: int(bindings_of_port[0]["HostPort"])
            for inner, bindings_of_port in bindings.items()
            if bindings_of_port
        }
        return published == self._published(component)

    @contextlib.contextmanager
    def _configured_container(self, component: Component) -> Iterator[DockerContainer]:
        """Describe a component's container to testcontainers."""
        name, full_name = component.name, self._container_name(component.name)
        container = DockerContainer(component.image)
        try:
            container.with_name(full_name)
            published = self._published(component)
            container.ports = {inner: ("127.0.0.1", port) for inner, port in published.items()}  # type: ignore[misc]
            if component.volume:
                engine().volumes.create(full_name, labels=self._labels)
                container.with_volume_mapping(full_name, component.volume, "rw")
            if component.shared_volume:
                shared = f"saga-lab-shared-{name}"
                engine().volumes.create(shared, labels={SHARED_LABEL: name})
                container.with_volume_mapping(shared, component.shared_volume, "rw")
            container.with_kwargs(
                labels={**self._labels, COMPONENT_LABEL: name},
                hostname=name,
                # The lab's containers resolve no external names. But for the name of a stopped container, the engine
                # queries external DNS servers, which blocks for 10 s without a network. So it gets a DNS server that
                # does not exist, and, for old engines that report no failure, a short timeout.
                dns=["127.0.0.1"],
                dns_opt=["timeout:1", "attempts:1"],
                entrypoint=list(component.entry_point) or None,
                network=self._network.name,
                networking_config={
                    self._network.name: engine().api.create_endpoint_config(
                        aliases=[name], ipv4_address=self._address(name)
                    )
                },
                restart_policy={"Name": "on-failure"} if component.restarts else None,
            )
            component.configure(container)
            yield container
        finally:
            container.get_docker_client().client.close()

    def _is_up_or_stopped(self, name: str) -> bool:
        found, record = self._container(name), self.state.components.get(name)
        is_up = found is not None and found.status not in ("created", "restarting")
        return is_up or (record is not None and record.stopped_on_purpose)

    def _remove(self, container: Container) -> None:
        """Remove a container and its anonymous volumes. Its data stay in named volumes."""
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)

    def await_ready(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        component = self.component(name)
        if self._container(name) is None:
            raise NotRunning(f"{name} was not started.", next_step=f"run `lab start {name}`")

        next_check, next_reach = 0.0, time.monotonic() + REACH_INTERVAL

        def still_alive() -> None:
            nonlocal next_check, next_reach
            meanwhile()
            # Querying the engine costs more than probing the component.
            if time.monotonic() < next_check:
                return
            next_check = time.monotonic() + CHECK_INTERVAL
            found = self._container(name)
            if found is None or found.status not in ("running", "paused", "created", "restarting"):
                log = self.log(name, 15)
                raise ComponentFailed(
                    f"{name} exited during startup.",
                    log=log,
                    next_step=code_advice(log, name)
                    or "run `lab doctor`, or use local mode, which needs no Docker: LAB_MODE=local",
                )
            if time.monotonic() > next_reach:
                next_reach = time.monotonic() + REACH_INTERVAL
                sockets = ""
                with contextlib.suppress(LabError):  # it has just ended, or its image has no such program
                    sockets = self._run(name, ["cat", "/proc/net/tcp", "/proc/net/tcp6"])
                if is_out_of_reach(sockets, component.inner_port, component.port):
                    raise elsewhere(engine_address(), f"{name} listens in its container, but not on 127.0.0.1 here")

        if not poll_until(component.is_ready, component.timeout, interval=0.1, meanwhile=still_alive):
            raise ComponentFailed(
                f"{name} runs, but did not become ready within {component.timeout:.0f} s.",
                log=self.log(name, 15),
                next_step="on a slow host, run `lab up` again; local mode needs no Docker: LAB_MODE=local",
            )
        component.settle()

    def _running(self, name: str) -> Container:
        found = self._container(name)
        if found is None or found.status not in ("running", "paused"):
            raise NotRunning(
                f"{name} is not running.", next_step=f"run `lab start {name}`, or `lab up` to start the whole lab"
            )
        return found

    def stop(self, name: str) -> None:
        self._stop_container(name)
        self._record(name, ComponentRecord(stopped_on_purpose=True))

    def _stop_container(self, name: str) -> None:
        found = self._container(name)
        if found is None or found.status not in ("running", "paused"):
            return
        with translate_errors(f"{name} can't be stopped"), contextlib.suppress(NotFound):
            if found.status == "paused":
                found.unpause()
            found.stop(timeout=int(self.component(name).grace))

    def kill(self, name: str) -> None:
        found = self._running(name)
        with translate_errors(f"{name} can't be killed"):
            if found.status == "paused":
                found.unpause()
            with contextlib.suppress(APIError):  # it may have ended by itself meanwhile
                found.kill()
            found.wait()

    def pause(self, name: str) -> None:
        found = self._running(name)
        if found.status != "paused":
            with translate_errors(f"{name} can't be paused"):
                found.pause()

    def resume(self, name: str) -> None:
        found = self._running(name)
        if found.status == "paused":
            with translate_errors(f"{name} can't be resumed"):
                found.unpause()

    def reload(self, name: str) -> None:
        with translate_errors(f"{name} can't reload its configuration"):
            self._running(name).kill("SIGHUP")

    # -- looking ---------------------------------------------------------------------------------------------------

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        log = f"docker logs {self._container_name(name)}"
        found = self._container(name)
        record = self.state.components.get(name)
        if found is None:
            known = record is not None and not record.stopped_on_purpose
            return ComponentStatus("failed" if known else "stopped", log=log)
        states: dict[str, ComponentState] = {"running": "running", "paused": "paused", "restarting": "failed"}
        ended: ComponentState = "stopped" if record is None or record.stopped_on_purpose else "failed"
        state = states.get(found.status, ended)
        used = _memory(found) if memory and state in ("running", "paused") else None
        return ComponentStatus(state, container=found.name, rss_bytes=used, log=log)

    def database_for_connect(self, service: str) -> DatabaseServer:
        server: DatabaseServer = self._databases[service].inner_server
        return server

    def spans(self, service: str) -> str:
        return self._run(service, ["cat", Service.spans_file])

    def log(self, name: str, lines: int) -> str:
        found = self._container(name)
        if found is None:
            return ""
        with translate_errors(f"the log of {name} can't be read"):
            return str(found.logs(tail=lines).decode(errors="replace")).rstrip("\n")

    def follow(self, name: str) -> Iterator[str]:
        since = time.time()
        while True:
            found = self._container(name)
            if found is not None:
                with translate_errors(f"the log of {name} can't be read"):
                    for piece in found.logs(stream=True, follow=True, since=since):
                        yield piece.decode(errors="replace").rstrip("\n")
            # The container has ended; the next start creates another one.
            since = time.time()
            poll_until(lambda: (now := self._container(name)) is not None and now.status == "running", math.inf)

    # -- the whole lab ---------------------------------------------------------------------------------------------

    def down(self) -> None:
        self._stop_in_order(self._stop_container)
        # Remove everything that carries this lab's label, even if the state does not list it.
        with translate_errors("the lab's containers can't be removed"), ThreadPoolExecutor(8) as pool:
            list(pool.map(self._remove, self._containers()))
            for network in engine().networks.list(filters={"label": f"{LAB_LABEL}={self.lab_id}"}):
                network.remove()
        self._record_shutdown()

    def purge(self) -> None:
        with translate_errors("the lab's volumes can't be removed"):
            for volume in engine().volumes.list(filters={"label": f"{LAB_LABEL}={self.lab_id}"}):
                volume.remove(force=True)
        remove_tree(self.paths.state / "config")


def _describe_requirements() -> str:
    """Describe the memory and disk that the container backend needs, and what the engine has."""
    with translate_errors("Docker's memory can't be queried"):
        info = engine().info()
    available = f"Docker has {info['MemTotal'] / 1e9:.1f} GB of memory"
    with contextlib.suppress(OSError):  # on macOS and Windows its folder is in its virtual machine
        available += f" and {shutil.disk_usage(info['DockerRootDir']).free / 1e9:.0f} GB of disk"
    return (
        f"the images are downloaded once: about 2.5 GB of disk; the lab then uses 1.1 GB of memory ({available}); "
        "with LAB_MODE=local, the lab starts local processes instead"
    )


def _memory(container: Container) -> int | None:
    """Return a container's memory in bytes, without reclaimable caches, as `docker stats` counts it."""
    try:
        stats: dict[str, Any] = engine().api.stats(container.id, stream=False, one_shot=True)
        memory = stats["memory_stats"]
        parts = memory["stats"]  # keys differ between control groups v1 and v2
        used: int = memory["usage"] - parts.get("total_inactive_file", parts.get("inactive_file", 0))
    except (APIError, LookupError, EngineUnavailable, LabError):
        return None
    return used
