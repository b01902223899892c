"""The process that forwards ports, and forwards that last for one operation only."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from labstack.backends.kubernetes.forwarding import ADDRESS, Plan
from labstack.backends.kubernetes.kubectl import Kubectl
from labstack.backends.kubernetes.workloads import Pod
from labstack.backends.processes import process
from labstack.clients.database_server import write_private
from labstack.config.paths import LabPaths
from labstack.errors import ClusterUnavailable, LabError
from labstack.ports import free as ports
from labstack.process_id import ProcessId
from labstack.state import ComponentRecord

NAME = "port-forward"
"""Name of the process in its marker, its log and the lab's state."""

LISTEN_SECONDS = 30.0
"""Seconds until kubectl must have opened a port."""
LISTENING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class ForwardProcess:
    """The process that forwards ports for one lab.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    lab_id : str
        Id of the lab.
    """

    def __init__(self, paths: LabPaths, lab_id: str) -> None:
        self._paths = paths
        self._lab_id = lab_id
        self._file = paths.config("kubernetes") / "forwards.json"

    def is_alive(self, record: ComponentRecord | None) -> bool:
        """Return whether the recorded process is alive."""
        return record is not None and process.alive(record.process)

    def has(self, plan: Plan, record: ComponentRecord | None) -> bool:
        """Return whether the recorded process is alive and forwards these ports."""
        return self.is_alive(record) and self._file.exists() and self._file.read_text() == plan.to_json()

    def start(self, plan: Plan, variables: dict[str, str]) -> ProcessId:
        """End the processes of an earlier plan, and start one for this plan."""
        self.end()
        write_private(self._file, plan.to_json())
        command = process.Command(
            [sys.executable, "-m", "labstack.backends.kubernetes.forwarding", str(self._file)],
            cwd=self._paths.state,
            env=variables,
        )
        return process.spawn(command, self._paths.log(NAME), f"{self._lab_id}/{NAME}")

    def end(self) -> None:
        """End the process and every forward, regardless of who started it."""
        process.destroy(process.lab_processes(self._lab_id, NAME))
        self._file.unlink(missing_ok=True)


def require_free(wanted: Iterable[int]) -> None:
    """Check that the brokers' ports are free. They are fixed, because the brokers advertise them.

    Raises
    ------
    LabError
        A port is taken.
    """
    for port in wanted:
        if not ports.is_free(port):
            raise LabError(
                f"Port {port} is taken by {ports.who_listens(port)}. The lab can't use another, because the brokers "
                "on the cluster advertise it.",
                next_step="stop that program, such as another lab that is attached to a cluster (`lab down`)",
            )


@contextlib.contextmanager
def temporary_forwards(kubectl: Kubectl, pods: Iterable[Pod], port: int) -> Iterator[list[str]]:
    """Forward a port of each pod while the block runs, and yield the base URLs.

    Raises
    ------
    ClusterUnavailable
        A forward was not possible.
    """
    with ExitStack() as stack:
        children = [
            (pod, stack.enter_context(kubectl.stream("port-forward", ADDRESS, f"pod/{pod.name}", f":{port}")))
            for pod in pods
        ]
        yield [_url(pod, child) for pod, child in children]


def _url(pod: Pod, child: subprocess.Popen[str]) -> str:
    assert child.stdout
    limit = threading.Timer(LISTEN_SECONDS, child.kill)  # then the line is empty
    limit.start()
    found = LISTENING.search(child.stdout.readline())
    limit.cancel()
    if not found:
        raise ClusterUnavailable(
            f"No port of the pod {pod.name} can be forwarded.",
            next_step="look at `lab status`, then run the command again",
        )
    return f"http://127.0.0.1:{found[1]}"
