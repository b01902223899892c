"""A hub on a real cluster, whose learners are pods, and what their pods use."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstack.waiting import poll_until
from tests.cluster.cluster import Cluster
from tests.hub.chart import values
from tests.hub.learner_image import IMAGE
from tests.hub.network import network_of
from tests.hub.running import Hub, HubFailed, hub

ADDRESS = "10.88.0.1"
"""Address of the control plane, where the hub runs as a process."""
NAMESPACE = "class"


@dataclass(frozen=True)
class Use:
    """What the processes of a pod use.

    Attributes
    ----------
    memory : int
        Bytes of memory: the proportional set size, which counts memory that processes share once.
    cpu : float
        Seconds of processor time since their start.
    processes : int
        Number of processes.
    """

    memory: int
    cpu: float
    processes: int


@contextmanager
def room(cluster: Cluster, folder: Path, *, volumes: int, at_once: int, **kubespawner: Any) -> Iterator[Hub]:
    """Run a hub with the class's values on a cluster for a block, and use the cluster's network in this thread.

    The pods stay until the cluster ends.

    Parameters
    ----------
    cluster : Cluster
        The cluster.
    folder : Path
        An empty folder for the hub.
    volumes : int
        Number of volumes for the learners' homes.
    at_once : int
        Number of servers that may start at once.
    kubespawner
        Settings of KubeSpawner that differ from the values.
    """
    labels = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "warn")}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    make_volumes(cluster, volumes)
    environment = values()["singleuser"]["extraEnv"]
    traits = {
        "JupyterHub": {"spawner_class": "kubespawner.KubeSpawner", "concurrent_spawn_limit": at_once},
        "KubeSpawner": {
            "namespace": NAMESPACE,
            "image": f"docker.io/{IMAGE}",
            "image_pull_policy": "Never",
            "environment": {**environment, "LAB_PROGRESS_URL": f"http://{ADDRESS}:18003/services/progress/hand-in"},
            **kubespawner,
        },
    }
    inside = cluster.in_network([])
    with (
        network_of(cluster.pid),
        hub(folder, traits, address=ADDRESS, inside=inside, environment=cluster.environment) as running,
    ):
        yield running


def make_volumes(cluster: Cluster, number: int) -> None:
    """Make the volumes for homes, which every node reaches, as a default storage class does on demand."""
    storage: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "homes", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
        }
    ]
    for one in range(number):
        folder = cluster.home / "volumes" / f"home-{one:02}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        spec = {
            "storageClassName": "homes",
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "hostPath": {"path": str(folder)},
        }
        name = {"name": f"home-{one:02}"}
        storage.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": name, "spec": spec})
    cluster.apply(*storage)


def start_servers(hub: Hub, names: Sequence[str], timeout: float) -> float:
    """Start the servers of these users at once, and return the seconds until all were ready.

    Raises
    ------
    HubFailed
        A server was not ready in time, or failed to start.
    """
    began = time.monotonic()
    for name in names:

        def accepted(name: str = name) -> bool:
            # While `concurrent_spawn_limit` servers start, the hub asks to try again later.
            return hub.api("POST", f"/users/{name}/server").status_code != 429

        if not poll_until(accepted, timeout, interval=1):
            raise HubFailed(f"the hub did not start the server of {name}")
    waiting = list(names)

    def all_ready() -> bool:
        waiting[:] = [name for name in waiting if not is_ready(hub, name)]
        return not waiting

    if not poll_until(all_ready, timeout, interval=1):
        raise HubFailed(f"servers are not ready: {', '.join(waiting)}\n{hub.log.read_text()[-3000:]}")
    return time.monotonic() - began


def is_ready(hub: Hub, name: str) -> bool:
    """Report whether a user's server is ready."""
    return bool(hub.api("GET", f"/users/{name}").json()["servers"].get("", {}).get("ready"))


def stop_server(hub: Hub, name: str, timeout: float = 90) -> float:
    """Stop a user's server, and return the seconds until its pod was gone."""
    began = time.monotonic()
    hub.api("DELETE", f"/users/{name}/server").raise_for_status()
    if not poll_until(lambda: not hub.api("GET", f"/users/{name}").json()["servers"], timeout, interval=0.5):
        raise HubFailed(f"the server of {name} did not stop")
    return time.monotonic() - began


def in_pod(cluster: Cluster, name: str, *command: str, text: str = "", timeout: float = 600) -> str:
    """Run a command in a learner's pod, and return its standard output."""
    words = ["exec", "--namespace", NAMESPACE, *(["--stdin"] if text else []), f"jupyter-{name}", "--", *command]
    return cluster.kubectl(*words, text=text, timeout=timeout)


def use_of(cluster: Cluster, name: str) -> Use:
    """Return what the processes of a learner's pod use."""
    uid = str(cluster.get("pod", "--namespace", NAMESPACE, f"jupyter-{name}")["metadata"]["uid"])
    memory, ticks, processes = 0, 0, 0
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            if uid not in Path(f"/proc/{process}/cgroup").read_text():
                continue
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        memory += 1024 * next((int(line.split()[1]) for line in rollup if line.startswith("Pss:")), 0)
        ticks += int(fields[11]) + int(fields[12])
        processes += 1
    return Use(memory, ticks / os.sysconf("SC_CLK_TCK"), processes)
