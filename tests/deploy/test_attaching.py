"""`LAB_MODE=kubernetes`: what the lab knows of the chart, and its errors without a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from labstack import Lab
from labstack.backends.base import Endpoints
from labstack.backends.choice import MODES, any_component_runs, choose_mode
from labstack.backends.kubernetes import components, forwards, pausing, rights
from labstack.backends.kubernetes.attachment import Attachment, ClusterDatabase
from labstack.backends.kubernetes.backend import KubernetesBackend
from labstack.backends.kubernetes.forwarding import Plan, Target, choose
from labstack.backends.kubernetes.kubectl import Cluster, Kubectl, KubectlFailed
from labstack.backends.kubernetes.mesh import ClusterSteering, ClusterStore
from labstack.backends.kubernetes.workloads import (
    PAUSED,
    REPLICAS,
    ClusterObjects,
    Pod,
    Workload,
    container_switches,
    switches_patch,
)
from labstack.clients.database_server import ADMINISTRATOR
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.config.paths import LabPaths
from labstack.config.services import load_services
from labstack.errors import ClusterUnavailable, LabError, NotRunning, ProgramMissing
from labstack.gateway.access_log import log_format
from labstack.gateway.store import own_configuration
from labstack.istio.errors import InvalidMesh
from labstack.state import LabState, StateStore
from labstack.waiting import wait_until
from tests.deploy.rendering import of_kind, pod_templates
from tools import get_helm

PASSWORDS = {service.database: {"operator": "o", "reader": "r", "relay": "y"} for service in load_services()}
PLAIN = Attachment(Cluster(), observers=("prometheus", "jaeger"), passwords=PASSWORDS)
STRIMZI = dataclasses.replace(PLAIN, brokers=(0, 1, 2))


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """Return the folders of a lab that never ran."""
    return LabPaths(tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put kubectl on PATH, without a configuration of the user."""
    try:
        monkeypatch.setenv("PATH", f"{get_helm.folder()}{os.pathsep}{os.environ['PATH']}")
    except get_helm.Unavailable as reason:
        pytest.skip(f"NOT TESTED: {reason}")
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")


def kubeconfig(folder: Path, port: int) -> Path:
    """Write the kubeconfig of a cluster on a port of this machine."""
    file = folder / "config"
    cluster = {"name": "lab", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "lab", "context": {"cluster": "lab", "user": "lab"}}
    parts = {"clusters": [cluster], "contexts": [context], "users": [{"name": "lab", "user": {}}]}
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "lab", **parts}))
    return file


def backend_of(attachment: Attachment, paths: LabPaths) -> KubernetesBackend:
    """Return a backend that is attached to an installation."""
    attachment.write(paths)
    store = StateStore(paths)
    backend = KubernetesBackend(paths, store, load_services(), LabState(store.lab_id, mode="kubernetes"))
    usual = {key: here for n in backend.components() for key, (here, _) in backend.component(n).forwarded.items()}
    return KubernetesBackend(paths, store, load_services(), LabState(store.lab_id, "kubernetes", ports=usual))


def pod(name: str, labels: dict[str, str], *, ready: bool = True, terminating: bool = False, **more: Any) -> Pod:
    """Return a pod as the API server describes it."""
    metadata = {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": name, **more}
    gone = {"deletionTimestamp": "now"} if terminating else {}
    status = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{"name": "order", "containerID": "containerd://1", "state": {"running": {}}}],
    }
    return Pod({"kind": "Pod", "metadata": {**metadata, **gone}, "status": status})


# -- the mode ------------------------------------------------------------------------------------------------------


def test_a_cluster_is_used_on_request_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`auto` chooses no cluster, even if kubectl has one; `LAB_MODE` and the argument do."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, 1)))
    monkeypatch.delenv("LAB_MODE", raising=False)
    assert "kubernetes" in MODES
    assert choose_mode().mode != "kubernetes"
    assert str(choose_mode("kubernetes")) == "Kubernetes mode: explicitly requested."
    monkeypatch.setenv("LAB_MODE", "kubernetes")
    assert str(choose_mode()) == "Kubernetes mode: set by LAB_MODE."
    with pytest.raises(LabError, match="'kubernetes'"):
        Lab("unused", mode="kubernets")


def test_a_missing_kubectl_is_named(monkeypatch: pytest.MonkeyPatch, paths: LabPaths, tmp_path: Path) -> None:
    """Without kubectl on PATH, the error says so, and where to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match=r"no kubectl on PATH.*\n.*install kubectl"):
        Lab(paths=paths, mode="kubernetes").up()


@pytest.mark.usefixtures("kubectl")
def test_a_missing_configuration_is_named(paths: LabPaths) -> None:
    """Without a kubeconfig, the error names the variables, even if a program listens on kubectl's default port."""
    lab = Lab(paths=paths, mode="kubernetes")
    with ExitStack() as stack:
        with suppress(OSError):  # another program listens there already
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        with pytest.raises(ClusterUnavailable, match=r"kubectl has no cluster.*\n.*KUBECONFIG.*LAB_KUBE_CONTEXT"):
            lab.up()
    assert (lab.status().state, lab.status().mode) == ("stopped", "kubernetes")


@pytest.mark.usefixtures("kubectl")
@pytest.mark.parametrize("variables", [{}, {"LAB_KUBE_CONTEXT": "gone"}], ids=["no answer", "no such context"])
def test_a_cluster_that_does_not_answer_is_named(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, paths: LabPaths, tmp_path: Path
) -> None:
    """A refused connection and an unknown context are different errors, each with its reason."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, but it does not listen: the connection is refused
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, unused.getsockname()[1])))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        reason = 'context "gone" does not exist' if variables else "The cluster does not answer.*was refused"
        with pytest.raises(ClusterUnavailable, match=reason):
            Lab(paths=paths, mode="kubernetes").up()


def test_a_detached_lab_has_no_endpoints(paths: LabPaths) -> None:
    """After the lab is detached, it has no addresses and no passwords, even if the ports are still known."""
    backend = backend_of(PLAIN, paths)
    assert backend.endpoints().kafka == "127.0.0.1:19094"
    backend.down()
    assert backend.endpoints() == Endpoints()
    assert {backend.inspect(name).state for name in backend.components()} == {"stopped"}
    assert 19094 not in backend.state.ports.values()


def test_purge_keeps_the_lab_of_another_mode(paths: LabPaths) -> None:
    """A purge removes the files of the attachment, and not the passwords of the same lab's own databases."""
    backend = backend_of(PLAIN, paths)
    secret = paths.state / "config" / "order-db" / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_text("of a local lab")
    backend.purge()
    assert secret.exists()
    assert not paths.config("kubernetes").exists()


def test_a_lost_cluster_does_not_block_another_mode(monkeypatch: pytest.MonkeyPatch, paths: LabPaths) -> None:
    """If the cluster is gone, a start in another mode detaches from it; a start without a mode reports it."""
    backend = backend_of(PLAIN, paths)

    def gone(name: str, **_: object) -> None:
        raise ClusterUnavailable("The cluster does not answer.", next_step="start it")

    monkeypatch.setattr(backend, "inspect", gone)
    with pytest.raises(ClusterUnavailable):
        any_component_runs(backend, "kubernetes")
    assert not any_component_runs(backend, "local")
    assert backend.endpoints() == Endpoints()


@pytest.mark.usefixtures("kubectl")
def test_verbs_need_an_attached_lab(paths: LabPaths) -> None:
    """Before the lab is attached, a verb says so, and `down` has nothing to do."""
    lab = Lab(paths=paths, mode="kubernetes")
    with pytest.raises(ClusterUnavailable):
        lab.up()
    for verb in (lambda: lab.logs("order"), lambda: lab.mesh.show(), lambda: lab.faults.kill("order"), lab.check):
        with pytest.raises(NotRunning, match="run `lab up`"):
            verb()
    lab.down()


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        (
            'Error from server (Forbidden): secrets is forbidden: User "ada" cannot list resource "secrets"',
            ClusterUnavailable,
            "refuses `kubectl get pods`",
        ),
        ("error: You must be logged in to the server (Unauthorized)", ClusterUnavailable, "refuses"),
        ("Unable to connect to the server: dial tcp: lookup k8s.lan: no such host", ClusterUnavailable, "not answer"),
        (
            'Error from server (Forbidden): admission webhook "validation.istio.io" denied the request: no',
            KubectlFailed,
            "denied the request",
        ),
        ('E1130 noise\nError from server (NotFound): pods "order" not found', KubectlFailed, 'pods "order" not found'),
    ],
)
def test_errors_of_kubectl_are_sorted(stderr: str, kind: type[LabError], words: str) -> None:
    """Missing rights and a missing connection are errors about the cluster; the rest is about the request."""
    error = Kubectl(Cluster())._error(["get", "pods"], stderr)
    assert type(error) is kind
    assert words in str(error)
    assert error.next_step


def test_requested_cluster_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace and the context have their own variables, and the kubeconfig's path becomes absolute."""
    for name in ("LAB_KUBE_NAMESPACE", "LAB_KUBE_CONTEXT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert Cluster.requested() == Cluster("saga-lab", "", "")
    monkeypatch.setenv("LAB_KUBE_NAMESPACE", "class-1")
    monkeypatch.setenv("LAB_KUBE_CONTEXT", "kind-kind")
    monkeypatch.setenv("KUBECONFIG", "here.yaml")
    assert Cluster.requested() == Cluster("class-1", "kind-kind", os.path.abspath("here.yaml"))


# -- the chart -----------------------------------------------------------------------------------------------------


def workloads(attachment: Attachment, paths: LabPaths) -> dict[str, Workload]:
    """Return the workload of each component."""
    backend = backend_of(attachment, paths)
    return {name: backend.component(name).workload for name in backend.components()}


@pytest.mark.parametrize(("variant", "attachment"), [("plain", PLAIN), ("default", STRIMZI)])
def test_workloads_are_those_of_the_chart(variant: str, attachment: Attachment, paths: LabPaths) -> None:
    """Each component has an object in the chart, and its pods have the labels and the container."""
    templates = pod_templates(variant)
    of_operators = set()
    for name, workload in workloads(attachment, paths).items():
        assert workload.name in of_kind(workload.kind, variant), name
        if workload.kind not in ("Deployment", "StatefulSet"):
            of_operators.add(name)
            continue
        template = templates[workload.name]
        assert workload.labels.items() <= template["metadata"]["labels"].items(), name
        assert workload.container in [container["name"] for container in template["spec"]["containers"]], name
    databases = {service.database for service in load_services()}
    assert of_operators == {*databases, "prometheus", *(("kafka", "connect") if attachment.has_strimzi else ())}


def test_signals_reach_the_programs_of_own_pods() -> None:
    """Each pod whose program is its first process shares a PID namespace; an image without a shell does not need it."""
    sharing = {name for name, one in pod_templates("plain").items() if one["spec"].get("shareProcessNamespace")}
    services = {service.name for service in load_services()}
    assert sharing == {*services, "order-v2", "kafka", "connect", "connect-watcher"}


def test_brokers_advertise_the_ports_that_the_lab_forwards(paths: LabPaths) -> None:
    """In both modes of Kafka, the forwarded ports are those that the brokers advertise."""
    listeners = of_kind("Kafka")["saga"]["spec"]["kafka"]["listeners"]
    (forward,) = [one for one in listeners if one["name"] == "forward"]
    advertised = {one["broker"]: one["advertisedPort"] for one in forward["configuration"]["brokers"]}
    brokers = backend_of(STRIMZI, paths).component("kafka")
    pairs = {node: target.ports for node, target in zip(STRIMZI.brokers, brokers.targets, strict=True)}
    assert pairs == {node: {port: forward["port"]} for node, port in advertised.items()}
    assert [target.labels for target in brokers.targets] == [
        {"statefulset.kubernetes.io/pod-name": f"saga-brokers-{node}"} for node in (0, 1, 2)
    ]
    text = of_kind("ConfigMap", "plain")["kafka"]["data"]["server.properties"]
    settings = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    (target,) = backend_of(PLAIN, paths).component("kafka").targets
    assert target.ports == {19094: 9092}
    assert "PLAINTEXT://127.0.0.1:19094," in settings["advertised.listeners"]
    # In the pod, nothing listens on the advertised port.
    assert settings["inter.broker.listener.name"] == "INNER"


def test_gateway_logs_in_the_format_of_the_lab() -> None:
    """The gateway writes each request in the format that `lab mesh log` reads."""
    (patch,) = of_kind("EnvoyFilter")["access-log"]["spec"]["configPatches"]
    (log,) = patch["patch"]["value"]["typed_config"]["access_log"]
    assert log["typed_config"]["log_format"] == {"json_format": log_format()}
    assert log["typed_config"]["path"] == "/dev/stdout"
    assert "EnvoyFilter" not in {one["kind"] for one in pod_templates("no mesh").values() if "kind" in one}


def test_passwords_are_those_of_the_secrets(paths: LabPaths) -> None:
    """The stored attachment keeps the passwords, readable by the user only; the lab has no superuser."""
    backend = backend_of(PLAIN, paths)
    assert Attachment.read(paths) == PLAIN
    server = backend.database_server("order")
    assert server.url() == f"postgresql://operator:o@127.0.0.1:{backend.state.ports['order-db']}/order"
    assert backend.database_for_connect("order").relay_login == "order-db-rw:5432:*:relay:y\n"
    assert (paths.config("kubernetes") / "attachment.json").stat().st_mode & 0o077 == 0
    assert isinstance(server, ClusterDatabase)
    with pytest.raises(ClusterUnavailable, match="as postgres"):
        server.password(ADMINISTRATOR)


def test_an_installation_without_a_mesh_has_no_gateway(paths: LabPaths) -> None:
    """Without a gateway, requests go to the services, and the gateway's verbs say why they can't work."""
    backend = backend_of(dataclasses.replace(PLAIN, gateway=False), paths)
    assert "envoy" not in backend.components()
    assert backend.endpoints().client("order") == backend.endpoints().services["order"]
    with pytest.raises(LabError, match=r"no gateway \(`mesh.enabled=false`\)"):
        backend.steering()


@pytest.mark.parametrize("verb", ["prefetch", "launch_here", "reload", "spans", "server_for_extensions"])
def test_verbs_without_sense_on_a_cluster_say_so(verb: str, paths: LabPaths) -> None:
    """A verb that only a lab on this machine has raises an error with another way."""
    with pytest.raises(LabError, match=r"[Oo]n a cluster.*\nNext step: "):
        getattr(backend_of(PLAIN, paths), verb)("order")


# -- objects and pods ----------------------------------------------------------------------------------------------


def test_stop_remembers_the_replicas() -> None:
    """A stop records the number of replicas on the object, and a start restores it."""
    workload = components.deployment("order")
    running = {"kind": "Deployment", "metadata": {"name": "order"}, "spec": {"replicas": 3}}
    change = workload.stop_patch(ClusterObjects([running]))
    assert change == {"metadata": {"annotations": {REPLICAS: "3"}}, "spec": {"replicas": 0}}
    stopped = ClusterObjects([{**running, **change, "metadata": {"name": "order", **change["metadata"]}}])
    assert (workload.is_stopped(stopped), workload.state(stopped)) == (True, "stopped")
    assert workload.start_patch(stopped)["spec"] == {"replicas": 3}


def test_state_follows_the_pods() -> None:
    """A component runs if a container runs, is paused if that container was paused, and else has failed."""
    workload, labels = components.deployment("order"), {"app.kubernetes.io/name": "order"}
    deployment = {"kind": "Deployment", "metadata": {"name": "order"}, "spec": {"replicas": 1}}

    def state(*pods: Pod) -> str:
        return workload.state(ClusterObjects([deployment, *(one.data for one in pods)]))

    assert state() == "failed"
    assert state(pod("a", labels, ready=False)) == "running"
    assert state(pod("a", labels, annotations={PAUSED: "containerd://1"})) == "paused"
    assert state(pod("a", labels, annotations={PAUSED: "containerd://0"})) == "running"  # restarted since
    assert state(pod("a", labels, terminating=True)) == "failed"
    waiting = pod("a", labels)
    waiting.data["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert state(waiting) == "failed"
    assert waiting.problem("order") == "pod a: CrashLoopBackOff"


def test_a_stop_of_strimzis_brokers_says_why_not() -> None:
    """Strimzi's brokers can't be stopped, and the error names what works instead."""
    workload = components.Kafka(components.Context({}, STRIMZI, lambda name, lines: "")).workload
    with pytest.raises(LabError, match=r"can't be stopped.*\n.*lab pause kafka"):
        workload.stop_patch(ClusterObjects([]))


def test_fault_switches_are_in_the_deployment() -> None:
    """The lab reads a Deployment's fault switches as it writes them."""
    change = switches_patch("order", "slow-handler=2,no-retry")
    assert container_switches(change) == {"slow-handler": "2", "no-retry": ""}
    assert container_switches({}) == {}
    assert switches_patch("order", "")["spec"]["template"]["spec"]["containers"][0]["env"][0]["$patch"] == "delete"


def test_a_forward_leads_to_the_right_pod() -> None:
    """A forward prefers a ready pod, stays where it is, and leaves a pod that terminates or has lost its role."""
    target = Target("order-db", {"role": "primary"}, {5441: 5432})
    a, b = pod("a", {"role": "primary"}), pod("b", {"role": "primary"})
    assert choose([a, b], target) == a
    assert choose([a, b], target, b.uid) == b
    assert choose([pod("a", a.labels, ready=False), b], target, a.uid) == b
    assert choose([pod("a", a.labels, terminating=True), b], target, a.uid) == b
    assert choose([pod("a", {"role": "replica"}), b], target, a.uid) == b
    assert choose([pod("a", {"role": "replica"})], target, a.uid) is None


def test_plan_of_the_forwards_survives_its_file() -> None:
    """The process that forwards ports reads the plan that the lab has written."""
    plan = Plan(Cluster("a", "b", "c"), (Target("order", {"app": "order"}, {8101: 8000}),))
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.targets[0].pairs == ["8101:8000"]


def test_a_taken_broker_port_is_named() -> None:
    """The brokers' ports are fixed, so the error names the program that has one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LabError, match=rf"Port {port} is taken by .*\(pid {os.getpid()}\)"):
            forwards.require_free([port])
    forwards.require_free([port])


# -- signals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleepers(tmp_path: Path) -> Iterator[list[psutil.Process]]:
    """Yield two processes with a special name."""
    program = tmp_path / "lab-sleeper"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with ExitStack() as stack:
        children = [stack.enter_context(subprocess.Popen([program, "60"])) for _ in range(2)]
        for child in children:
            stack.callback(child.kill)
        yield [psutil.Process(child.pid) for child in children]


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="needs /proc")
def test_script_stops_and_continues_processes(sleepers: list[psutil.Process]) -> None:
    """The script stops the processes of one name, counts them, and lets them continue."""
    for signal, wanted in (("STOP", psutil.STATUS_STOPPED), ("CONT", psutil.STATUS_SLEEPING)):
        command = ["sh", "-c", pausing.SCRIPT, "sh", signal, "lab-sleeper"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "2\n"
        wait_until(lambda wanted=wanted: all(one.status() == wanted for one in sleepers), 5, what=wanted)  # type: ignore[misc]


# -- the mesh ------------------------------------------------------------------------------------------------------


def test_mesh_changes_stay_in_the_namespace() -> None:
    """Objects of another namespace are refused before anything is applied; the lab's own documents are accepted."""
    steering = ClusterSteering(Kubectl(Cluster("class-1")), EnvoyAdmin("http://127.0.0.1:1"))
    documents = own_configuration()
    steering.validate(documents)
    moved = {**documents[0].data, "metadata": {"name": "other", "namespace": "other"}}
    with pytest.raises(InvalidMesh, match="namespace class-1"):
        steering.validate([dataclasses.replace(documents[0], data=moved)])


def test_mesh_of_a_detached_lab_needs_a_cluster() -> None:
    """Without an attachment there are no documents in force."""
    with pytest.raises(NotRunning, match="not attached"):
        ClusterStore(None).read()


# -- rights --------------------------------------------------------------------------------------------------------


def test_a_missing_right_is_found_in_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each right is one review, with the group and the subresource apart; the refused one is reported."""
    asked: list[dict[str, str]] = []

    def create(self: Kubectl, *arguments: str, text: str = "", timeout: float = 0) -> str:
        reviews = [item["spec"]["resourceAttributes"] for item in json.loads(text)["items"]]
        asked.extend(reviews)
        allowed = [{"status": {"allowed": one["subresource"] != "log"}} for one in reviews]
        return "\n".join(json.dumps(one, indent=2) for one in allowed)  # as kubectl prints several objects

    monkeypatch.setattr(Kubectl, "run", create)
    wanted = [rights.Right("patch", "deployments.apps", "lab stop"), rights.Right("get", "pods/log", "lab logs")]
    assert rights.missing(Kubectl(Cluster("shop")), wanted) == [wanted[1]]
    assert asked == [
        {"verb": "patch", "namespace": "shop", "group": "apps", "resource": "deployments", "subresource": ""},
        {"verb": "get", "namespace": "shop", "group": "", "resource": "pods", "subresource": "log"},
    ]
