"""The Kubernetes backend: components on a cluster, reached through forwarded ports.

The cluster owns the components. The lab's own processes are only the port forwards: `lab up` attaches, `lab down`
detaches, and neither installs or removes anything on the cluster.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from labstack.backends.base import ComponentStatus, Endpoints
from labstack.backends.common import BackendBase
from labstack.backends.components import Gateway
from labstack.backends.kubernetes import components, forwards, pausing
from labstack.backends.kubernetes.attachment import Attachment, discover
from labstack.backends.kubernetes.components import Component, Context
from labstack.backends.kubernetes.forwarding import Plan
from labstack.backends.kubernetes.forwards import ForwardProcess
from labstack.backends.kubernetes.kubectl import Cluster, Kubectl, not_attached
from labstack.backends.kubernetes.workloads import ClusterObjects, Pod, Workload, container_switches, switches_patch
from labstack.clients.database_server import DatabaseServer
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.clients.relay import Relay
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry
from labstack.config.settings import written
from labstack.errors import ComponentFailed, LabError, NotRunning, StorageError
from labstack.gateway.addresses import SERVICE_PORT
from labstack.ports.plan import planned_ports
from labstack.process_id import this_process
from labstack.progress import Progress
from labstack.state import ComponentRecord, LabState, StateStore, remove_tree
from labstack.waiting import poll_until, wait_until

if TYPE_CHECKING:
    from labstack.gateway.steering import Steering
    from labstack.gateway.store import ConfigurationStore
    from labstack.istio.documents import Document

SNAPSHOT_SECONDS = 1.0
"""Seconds for which a snapshot of the cluster's objects is used again."""
STOP_TIMEOUT = 240.0
"""Seconds until all pods of a stopped component must have ended."""
KILL_TIMEOUT = 60.0
PROBLEM_SECONDS = 3.0
"""Seconds between two looks at the pods of a component that is not ready."""
LASTING = ("ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")
"""Problems of a pod that do not go away by themselves."""


class KubernetesBackend(BackendBase[Component]):
    """Reach the components of one installation on a cluster."""

    mode = "kubernetes"

    def __init__(self, paths: LabPaths, store: StateStore, services: tuple[ServiceEntry, ...], state: LabState) -> None:
        super().__init__(paths, store, services, state)
        self._stored = Attachment.read(paths)
        self._last_snapshot: tuple[float, ClusterObjects] | None = None
        self._snapshot_lock = threading.Lock()

    @property
    def _attachment(self) -> Attachment:
        """The installation that the lab is attached to; if it is not attached, the usual one."""
        return self._stored or Attachment(Cluster.requested())

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(self._attachment.cluster)

    def _make_components(self) -> list[Component]:
        return components.every(Context(self._ports, self._attachment, self.log), self.services)

    def component(self, name: str) -> Component:
        if name == Gateway.name and not self._attachment.gateway:
            raise LabError(
                "This installation has no gateway (`mesh.enabled=false`); requests go to the services directly.",
                next_step="run `helm upgrade` with `mesh.enabled=true` on a cluster with Istio, then `lab up`",
            )
        return super().component(name)

    @property
    def gateway(self) -> Gateway:
        found = self.component(Gateway.name)
        assert isinstance(found, Gateway)
        return found

    # -- before a start --------------------------------------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        with progress.stage("the installation") as stage:
            attachment = discover(self._kubectl, self.services)
            progress.note(stage, str(attachment.cluster))
            attachment.write(self.paths)
        with self._state_lock:
            self._stored = attachment
            self.update(observers=list(attachment.observers), observed=bool(attachment.observers))
        snapshot = self._snapshot()
        switches = {
            service.name: active
            for service in self.services
            if (active := container_switches(self.component(service.name).workload.object(snapshot)))
        }
        records = {
            name: ComponentRecord(stopped_on_purpose=component.workload.is_stopped(snapshot))
            for name, component in self._components.items()
        }
        self.update(switches=switches, components={**self.state.components, **records})
        self._choose_ports(progress)

    def prefetch(self, progress: Progress) -> None:
        raise LabError(
            "On a cluster, the nodes pull the images when the chart is installed.",
            next_step="load the images into the nodes or a registry (docs/kubernetes.md), or use another mode",
        )

    def _choose_ports(self, progress: Progress) -> None:
        usual = {key: here for one in self._components.values() for key, (here, _) in one.forwarded.items()}
        fixed = {key: port for key, port in usual.items() if port >= components.BROKER_PORT}
        is_forwarding = self._forwards.is_alive(self._forward_record)
        if not is_forwarding:
            forwards.require_free(fixed.values())
        before = {**self.state.ports, **fixed}
        with planned_ports(usual, before, self._reservations, progress, keep=is_forwarding) as chosen:
            self._ports.update({**chosen, **fixed})
            self.update(ports=dict(self._ports))
            self._reservations.reserve(self._ports.values(), [this_process()])

    # -- forwards --------------------------------------------------------------------------------------------------

    @property
    def _forwards(self) -> ForwardProcess:
        return ForwardProcess(self.paths, self.store.lab_id)

    @property
    def _forward_record(self) -> ComponentRecord | None:
        return self.state.components.get(forwards.NAME)

    def _forward(self) -> None:
        """Start the process that forwards ports, unless it runs with this plan."""
        with self._state_lock:
            targets = [target for component in self._components.values() for target in component.targets]
            plan = Plan(self._attachment.cluster, tuple(targets))
            if self._forwards.has(plan, self._forward_record):
                return
            identity = self._forwards.start(plan, self._kubectl.variables)
            self._record(forwards.NAME, ComponentRecord(identity))
            self._reservations.reserve(self._ports.values(), [identity])

    @contextlib.contextmanager
    def every_instance(self) -> Iterator[dict[str, list[str]]]:
        """Yield the base URLs of all running pods of each service."""
        snapshot = self._snapshot(fresh=True)
        by_service: dict[str, list[Pod]] = {service.name: [] for service in self.services}
        for component in self._components.values():
            if isinstance(component, components.Service):
                container = component.workload.container
                pods = [pod for pod in component.workload.pods(snapshot) if pod.runs(container)]
                by_service[component.service.name] += [pod for pod in pods if not pod.is_terminating]
        every = [pod for pods in by_service.values() for pod in pods]
        with forwards.temporary_forwards(self._kubectl, every, SERVICE_PORT) as urls:
            by_pod = {pod.uid: url for pod, url in zip(every, urls, strict=True)}
            yield {service: [by_pod[pod.uid] for pod in pods] for service, pods in by_service.items()}

    # -- the objects on the cluster --------------------------------------------------------------------------------

    def _snapshot(self, *, fresh: bool = False) -> ClusterObjects:
        """Return the lab's objects on the cluster. Components that are inspected together share one request."""
        with self._snapshot_lock:
            if self._stored is None:
                raise not_attached()
            last = self._last_snapshot
            if last and not fresh and time.monotonic() - last[0] < SNAPSHOT_SECONDS:
                return last[1]
            resources = {"pods", *(one.workload.resource for one in self._components.values())}
            found = ClusterObjects(self._kubectl.items(",".join(sorted(resources))))
            self._last_snapshot = time.monotonic(), found
            return found

    def _change(self, *arguments: str) -> None:
        """Change objects on the cluster with kubectl."""
        self._kubectl.run(*arguments)
        self._last_snapshot = None

    def _pods(self, name: str) -> list[Pod]:
        return self.component(name).workload.pods(self._snapshot(fresh=True))

    def _running_pods(self, name: str) -> list[Pod]:
        workload = self.component(name).workload
        pods = [pod for pod in self._pods(name) if pod.runs(workload.container) and not pod.is_terminating]
        if not pods:
            raise NotRunning(
                f"{name} is not running.", next_step=f"run `lab start {name}`, or `lab up` to start the whole lab"
            )
        return pods

    # -- one component ---------------------------------------------------------------------------------------------

    def launch(self, name: str) -> None:
        component = self.component(name)
        self._forward()
        workload, snapshot = component.workload, self._snapshot(fresh=True)
        if isinstance(component, components.Service):
            self._set_switches(component, snapshot)
        if workload.is_stopped(snapshot):
            self._change(*workload.patch(workload.start_patch(snapshot)))
        self._record(name, ComponentRecord())

    def _set_switches(self, component: components.Service, snapshot: ClusterObjects) -> None:
        """Set the fault switches in the Deployment of a service, which restarts its pods if they change."""
        workload, wanted = component.workload, self.state.switches.get(component.service.name, {})
        if container_switches(workload.object(snapshot)) != wanted:
            text = ",".join(written(name, value) for name, value in wanted.items())
            self._change(*workload.patch(switches_patch(workload.container, text), "strategic"))

    def launch_here(self, name: str, argv: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        self.component(name)
        raise LabError(
            f"{name} runs on a cluster, so it can't run in this terminal.",
            next_step="start a lab of plain processes: `LAB_NAME=mine LAB_MODE=local lab up`",
        )

    def await_ready(self, name: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        component = self.component(name)
        workload, next_look = component.workload, time.monotonic() + PROBLEM_SECONDS

        def pods_may_start() -> None:
            nonlocal next_look
            meanwhile()
            if time.monotonic() < next_look:
                return
            next_look = time.monotonic() + PROBLEM_SECONDS
            problems = [pod.problem(workload.container) for pod in workload.pods(self._snapshot())]
            if problems and all(problem.endswith(LASTING) for problem in problems):
                raise ComponentFailed(
                    f"{name} can't start: {'; '.join(problems)}.",
                    next_step=f"look at `kubectl describe pods`, correct the cause, then run `lab start {name}`",
                )

        if not poll_until(component.is_ready, component.timeout, meanwhile=pods_may_start):
            raise self._not_ready(name)
        component.settle()

    def _not_ready(self, name: str) -> ComponentFailed:
        """Return the error of a component that did not become ready, with what was seen last."""
        component = self.component(name)
        pods = self._pods(name)
        problems = [problem for pod in pods if (problem := pod.problem(component.workload.container))]
        seen = "; ".join(problems) if pods else "it has no pod"
        forwarding = f"; the forwards' log is {self.paths.log(forwards.NAME)}"
        return ComponentFailed(
            f"{name} did not become ready within {component.timeout:.0f} s ({seen or 'its pods run'}).",
            log=self.log(name, 15),
            next_step=f"look at `kubectl get events`, then run `lab up` again{'' if problems else forwarding}",
        )

    def stop(self, name: str) -> None:
        workload = self.component(name).workload
        if self.inspect(name).state == "paused":
            self.resume(name)  # a paused process can't act on a signal
        snapshot = self._snapshot(fresh=True)
        if not workload.is_stopped(snapshot):
            self._change(*workload.patch(workload.stop_patch(snapshot)))
        wait_until(
            lambda: not self._pods(name),
            STOP_TIMEOUT,
            interval=0.5,
            what=f"the pods of {name} to end",
            next_step=f"look at `kubectl get pods`, then run `lab stop {name}` again",
        )
        self._record(name, ComponentRecord(stopped_on_purpose=True))

    def kill(self, name: str) -> None:
        victims = [pod for pod in self._running_pods(name) if pod.matches(self.component(name).workload.victims)]
        names, uids = [pod.name for pod in victims], {pod.uid for pod in victims}
        self._change("delete", "pod", *names, "--grace-period=0", "--force", "--wait=false")
        wait_until(
            lambda: not uids & {pod.uid for pod in self._pods(name)},
            KILL_TIMEOUT,
            interval=0.2,
            what=f"the cluster to delete {', '.join(names)}",
        )

    def pause(self, name: str) -> None:
        self._signal(name, pausing.pause)

    def resume(self, name: str) -> None:
        self._signal(name, pausing.resume)

    def _signal(self, name: str, send: Callable[[Kubectl, Workload, Pod], None]) -> None:
        workload, pods = self.component(name).workload, self._running_pods(name)
        with ThreadPoolExecutor(len(pods)) as pool:
            list(pool.map(lambda pod: send(self._kubectl, workload, pod), pods))
        self._last_snapshot = None

    def reload(self, name: str) -> None:
        raise LabError(
            f"On a cluster, the operator of {name} loads its configuration.",
            next_step="change the object on the cluster with kubectl",
        )

    # -- looking ---------------------------------------------------------------------------------------------------

    def inspect(self, name: str, *, memory: bool = False) -> ComponentStatus:
        component = self.component(name)
        log = f"kubectl --namespace={self._attachment.cluster.namespace} logs --selector={_selector(component)}"
        if self._stored is None:
            return ComponentStatus("stopped", log=log)
        snapshot = self._snapshot()
        pods = [pod.name for pod in component.workload.pods(snapshot) if not pod.is_terminating]
        return ComponentStatus(component.workload.state(snapshot), pods=tuple(pods), log=log)

    def endpoints(self) -> Endpoints:
        return super().endpoints() if self._stored else Endpoints()

    def database_for_connect(self, service: str) -> DatabaseServer:
        server: DatabaseServer = self._databases[service].inner_server
        return server

    def server_for_extensions(self, service: str) -> DatabaseServer:
        raise LabError(
            "On a cluster, the lab creates no databases, so it has no extension services.",
            next_step="use a lab of plain processes: `LAB_NAME=mine LAB_MODE=local lab up`",
        )

    def register_connector(self, service: str, meanwhile: Callable[[], None]) -> None:
        """Wait for the connector, which the chart registers; register it if it was deleted and no operator runs it."""
        relay = Relay(self.endpoints().connect)
        if poll_until(lambda: relay.has_connector(service), 60, interval=0.5, meanwhile=meanwhile):
            return
        if self._attachment.has_strimzi:
            raise LabError(
                f"Connect does not have the connector of {service}.",
                next_step="look at the KafkaConnector with `kubectl describe kafkaconnectors`",
            )
        relay.register(self.database_for_connect(service), meanwhile)

    def spans(self, service: str) -> str:
        raise LabError(
            "On a cluster, the services write their spans to a collector and not to files.",
            next_step="run `helm upgrade` with `tracing.jaeger=true`, then `lab up`",
        )

    def log(self, name: str, lines: int) -> str:
        """Return the last lines of each pod's log."""
        pods = self._pods(name)
        if not pods:
            return ""
        arguments = (*self._log_arguments(name, several=len(pods) > 1), f"--tail={lines}", "--ignore-errors")
        return self._kubectl.run(*arguments).rstrip("\n")

    def _log_arguments(self, name: str, *, several: bool) -> list[str]:
        component = self.component(name)
        return [
            "logs",
            f"--selector={_selector(component)}",
            f"--container={component.workload.container}",
            "--max-log-requests=20",
            *(["--prefix"] if several and name != Gateway.name else []),
        ]

    def follow(self, name: str) -> Iterator[str]:
        workload, since = self.component(name).workload, time.time()
        while True:
            pods = self._pods(name)
            if any(pod.runs(workload.container) for pod in pods):
                start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
                arguments = self._log_arguments(name, several=len(pods) > 1)
                with self._kubectl.stream(*arguments, "--follow", f"--since-time={start}") as child:
                    assert child.stdout
                    for line in child.stdout:
                        yield line.rstrip("\n")
                since = time.time()  # the pods have ended; the cluster starts others
            time.sleep(SNAPSHOT_SECONDS)

    # -- the mesh --------------------------------------------------------------------------------------------------

    def mesh_store(self) -> ConfigurationStore:
        from labstack.backends.kubernetes.mesh import ClusterStore

        return ClusterStore(self._kubectl if self._stored else None)

    def for_gateway(self, documents: Iterable[Document]) -> list[Document]:
        """Return the documents as they are, since they are written for a cluster."""
        return list(documents)

    def steering(self) -> Steering:
        from labstack.backends.kubernetes.mesh import ClusterSteering

        return ClusterSteering(self._kubectl, EnvoyAdmin(self.gateway.admin_url))

    # -- the whole lab ---------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Detach from the cluster: end the forwards, and forget the passwords."""
        self._forwards.end()
        Attachment.delete(self.paths)
        self._record_shutdown()
        # A lab of another mode must not occupy the ports that the brokers advertise.
        with contextlib.suppress(StorageError):
            own = {key: port for key, port in self.state.ports.items() if port < components.BROKER_PORT}
            self.update(ports=own)
        self._stored = None

    def purge(self) -> None:
        """Remove the files of the attachment: not the installation, and nothing of the same lab in another mode."""
        remove_tree(self.paths.config("kubernetes"))
        self.paths.log(forwards.NAME).unlink(missing_ok=True)


def _selector(component: Component) -> str:
    """Return the labels of a component's pods, as kubectl takes them."""
    return ",".join(f"{name}={value}" for name, value in component.workload.labels.items())
