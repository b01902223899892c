"""A real Kubernetes cluster in separate namespaces of this machine: control plane, nodes, containerd, and real pods.

It needs root, but no container engine and no image registry. Its network is separate, so a program that uses the
cluster runs in that network. Everything ends with its first process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstack.waiting import poll_until, wait_until
from tests.cluster import pki
from tests.containers.engine import children, environment_with_programs

SCRIPTS = Path(__file__).parent / "nodes"
PID = "cluster.pid"
"""File with the process ID of a cluster that keeps running, in its folder."""
START_TIMEOUT = 600.0
"""Seconds until all nodes must be ready; most of it is the import of the images."""


class ClusterFailed(Exception):
    """The cluster did not start, or a command in it failed; the message contains the output."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes
    ----------
    pid : int
        Process ID of its first process.
    home : Path
        Folder of its certificates, logs and data.
    programs : Path
        Folder of its programs.
    nodes : tuple of str
        Names of its nodes.
    """

    pid: int
    home: Path
    programs: Path
    nodes: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a program that uses the cluster: its kubeconfig, and `kubectl` and `helm` on the PATH."""
        path = os.pathsep.join([str(self.programs / "bin"), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.home / "pki" / "admin.kubeconfig")}

    def in_network(self, command: Sequence[str | Path]) -> list[str]:
        """Return the command that runs a program in the cluster's network."""
        return ["nsenter", f"--target={self.pid}", "--net", *map(str, command)]

    def run(self, *command: str | Path, text: str = "", check: bool = True, timeout: float = 600) -> str:
        """Run a program in the cluster's network, and return its standard output.

        Parameters
        ----------
        command : str or Path
            The program and its arguments.
        text : str
            Its standard input.
        check : bool
            Whether a failure raises an error. If not, the output contains standard error, too.
        timeout : float
            Seconds after which the program is ended.

        Raises
        ------
        ClusterFailed
            The program failed.
        """
        done = subprocess.run(
            self.in_network(command), input=text, capture_output=True, text=True, env=self.environment, timeout=timeout
        )
        if check and done.returncode:
            raise ClusterFailed(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
        return done.stdout if check else done.stdout + done.stderr

    def kubectl(self, *arguments: str | Path, text: str = "", check: bool = True, timeout: float = 600) -> str:
        """Run kubectl; see `run`."""
        return self.run("kubectl", *arguments, text=text, check=check, timeout=timeout)

    def get(self, *arguments: str) -> Any:
        """Return what `kubectl get` reports, as an object."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def apply(self, *documents: dict[str, Any] | str) -> None:
        """Create or change objects; a document is an object or YAML text."""
        texts = [one if isinstance(one, str) else json.dumps(one) for one in documents]
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text="\n---\n".join(texts))


@contextmanager
def cluster(home: Path, programs: Path, archives: Sequence[Path], nodes: int = 2) -> Iterator[Cluster]:
    """Run a cluster for a block.

    Parameters
    ----------
    home : Path
        An empty folder for the cluster.
    programs : Path
        Folder of the programs; see `tests.cluster.programs`.
    archives : sequence of Path
        Archives of images, which every node loads.
    nodes : int
        Number of nodes, at most 9.

    Raises
    ------
    ClusterFailed
        A program did not start, or a node did not become ready; the message contains the log.
    """
    addresses = {f"node{number}": f"10.88.0.1{number}" for number in range(1, nodes + 1)}
    for folder in ("logs", "volumes"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    pki.make(home / "pki", addresses)
    group = f"saga-lab-{os.getpid()}"
    from_debian = environment_with_programs(programs / "debian")
    environment = {
        **from_debian,
        "PATH": os.pathsep.join([str(programs / "bin"), from_debian["PATH"]]),
        "CLUSTER": str(home),
        "PROGRAMS": str(programs),
        "NODES": str(nodes),
        "CGROUP": group,
        "ARCHIVES": " ".join(map(str, archives)),
    }
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    with (home / "logs" / "network.log").open("wb") as log:
        outer = subprocess.Popen(
            [*namespaces, "bash", str(SCRIPTS / "network.sh")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        started = home / "started"
        if not poll_until(lambda: started.exists() or outer.poll() is not None, START_TIMEOUT) or not started.exists():
            raise ClusterFailed(f"the control plane did not start:\n{(home / 'logs/network.log').read_text()[-2000:]}")
        found = Cluster(children(outer.pid)[0], home, programs, tuple(addresses))
        if not wait_until(lambda: ready_nodes(found) == nodes, START_TIMEOUT):
            raise ClusterFailed(f"not every node became ready; read the logs below {home}")
        yield found
    finally:
        _end(outer)
        _remove_control_groups(group)


def running_in(home: Path, programs: Path) -> Cluster:
    """Return the cluster that `python -m tests.cluster` keeps running in a folder."""
    nodes = sorted(folder.name for folder in home.glob("node?"))
    return Cluster(int((home / PID).read_text()), home, programs, tuple(nodes))


def ready_nodes(cluster: Cluster) -> int:
    """Return the number of nodes that are ready."""
    ready = "{range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}"
    return cluster.kubectl("get", "nodes", "--output", f"jsonpath={ready}", check=False).split().count("True")


def _end(outer: subprocess.Popen[bytes]) -> None:
    """End the cluster: if the first process of its namespace is killed, the kernel kills all others."""
    for first in children(outer.pid) if outer.poll() is None else ():
        os.kill(first, signal.SIGKILL)
    try:
        outer.wait(30)
    except subprocess.TimeoutExpired:
        outer.kill()
        outer.wait()


def _remove_control_groups(name: str) -> None:
    """Remove the control groups of the pods, which are empty now."""
    root = Path("/sys/fs/cgroup")
    for group in (root / name, *(controller / name for controller in root.iterdir() if controller.is_dir())):
        if not group.is_dir():
            continue
        for folder, _, _ in os.walk(group, topdown=False):
            poll_until(lambda folder=folder: _removed(Path(folder)), 10)  # type: ignore[misc]


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return not folder.exists()
    return True


def unavailable_reason() -> str:
    """Return why no cluster can be run on this machine, or an empty string."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "a cluster's namespaces need root"
    tools = ("apt-get", "dpkg-deb", "unshare", "nsenter", "ip", "openssl")
    missing = [name for name in tools if not shutil.which(name)]
    return f"there is no {', '.join(missing)}" if missing else ""
