"""Forward ports of this machine to the cluster, each to the right pod, for as long as the lab is attached.

python -m labstack.backends.kubernetes.forwarding PLAN

A process of the lab runs this program. The program watches the pods of the namespace, and runs one ``kubectl
port-forward`` for each target of the plan. When a pod ends, or is no longer the right one, it starts a new forward to
another pod. After a failover, for example, the primary of a database is another pod.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labstack.backends.kubernetes.kubectl import Cluster, Kubectl
from labstack.backends.kubernetes.workloads import Pod
from labstack.errors import LabError

INTERVAL = 0.2
"""Seconds between two looks at the forwards."""
RETRY_INTERVALS = (0.2, 5.0)
"""Shortest and longest pause in seconds before a forward starts again."""
HEALTHY_AFTER = 10.0
"""Seconds after which a forward counts as healthy, so that its next pause is the shortest again."""
LIST_SECONDS = 2.0
"""Seconds until a new watch has listed all pods."""
STDERR = 2
"""File descriptor of the log."""
ADDRESS = "--address=127.0.0.1"


@dataclass(frozen=True)
class Target:
    """The pods that a forward leads to.

    Parameters
    ----------
    name : str
        The component.
    labels : mapping
        Labels of its pods.
    ports : mapping
        Port of the pod by port of this machine.
    """

    name: str
    labels: Mapping[str, str]
    ports: Mapping[int, int]

    @property
    def pairs(self) -> list[str]:
        """The ports as arguments of ``kubectl port-forward``."""
        return [f"{here}:{there}" for here, there in self.ports.items()]


@dataclass(frozen=True)
class Plan:
    """All forwards of a lab.

    Parameters
    ----------
    cluster : Cluster
        The cluster and the namespace.
    targets : tuple of Target
        The forwards.
    """

    cluster: Cluster
    targets: tuple[Target, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        raw = json.loads(text)
        targets = (
            Target(one["name"], one["labels"], {int(here): there for here, there in one["ports"].items()})
            for one in raw["targets"]
        )
        return cls(Cluster(**raw["cluster"]), tuple(targets))


def choose(pods: Sequence[Pod], target: Target, current: str = "") -> Pod | None:
    """Return the pod that a forward should lead to; None if there is none.

    A ready pod comes before one that is not ready, and a terminating pod comes last. Among equal pods, the current one
    stays, else the oldest is chosen.

    Parameters
    ----------
    pods : sequence of Pod
        The pods of the namespace, the oldest first.
    target : Target
        The target.
    current : str
        The uid of the pod that the forward leads to now.
    """
    matching = [pod for pod in pods if pod.matches(target.labels)]
    return min(matching, key=lambda pod: (pod.is_terminating, not pod.is_ready, pod.uid != current), default=None)


class Pods(threading.Thread):
    """The pods of the namespace, as the cluster reports their changes.

    Parameters
    ----------
    kubectl : Kubectl
        Access to the namespace.
    """

    def __init__(self, kubectl: Kubectl) -> None:
        super().__init__(daemon=True)
        self._kubectl = kubectl
        self._by_uid: dict[str, Pod] = {}
        self.deleted: set[str] = set()
        """The uids of the pods that were deleted. A pod that is missing in the list may only be unknown."""

    @property
    def all(self) -> list[Pod]:
        """The known pods, the oldest first."""
        pods = list(self._by_uid.values())
        return sorted(pods, key=lambda pod: (pod.data["metadata"]["creationTimestamp"], pod.name))

    def run(self) -> None:
        """Follow the changes; start again whenever the connection ends."""
        while True:
            try:
                self._watch()
            except (ValueError, OSError, LabError) as error:  # kubectl has ended within a line, or has not started
                print(f"The watch of the pods has ended: {error}", flush=True)
            time.sleep(1)

    def _watch(self) -> None:
        arguments = ("get", "pods", "--watch", "--output-watch-events", "--output=json")
        with self._kubectl.stream(*arguments, errors=STDERR) as child:
            found: dict[str, Pod] = {}
            if self._by_uid:  # the first events list all pods; a partial list would move forwards
                threading.Timer(LIST_SECONDS, self._use, [found, child]).start()
            else:
                self._by_uid = found
            assert child.stdout
            for line in child.stdout:  # each line is one event
                self._apply(json.loads(line), found)

    def _use(self, found: dict[str, Pod], child: subprocess.Popen[str]) -> None:
        """Use the pods that a watch has listed, if it still runs."""
        if child.poll() is None:
            self._by_uid = found

    def _apply(self, event: dict[str, Any], found: dict[str, Pod]) -> None:
        if event.get("object", {}).get("kind") != "Pod":
            return
        pod = Pod(event["object"])
        if event["type"] == "DELETED":
            self.deleted.add(pod.uid)
            found.pop(pod.uid, None)
        else:
            found[pod.uid] = pod


class Forward:
    """One forward, which is started again when it ends.

    Parameters
    ----------
    kubectl : Kubectl
        Access to the namespace.
    target : Target
        Its target.
    """

    def __init__(self, kubectl: Kubectl, target: Target) -> None:
        self._kubectl = kubectl
        self._target = target
        self._child: subprocess.Popen[str] | None = None
        self._uid = ""
        self._started = self._not_before = 0.0
        self._pause = RETRY_INTERVALS[0]

    def keep(self, pods: Sequence[Pod], deleted: set[str]) -> None:
        """Start the forward if it does not run, and replace it if it leads to the wrong pod."""
        wanted = choose(pods, self._target, self._uid)
        if self._child and self._child.poll() is None:
            if self._uid in deleted or (wanted and wanted.uid != self._uid):
                self.end()
            else:
                return
        if self._child:
            self._child, now = None, time.monotonic()
            is_healthy = now - self._started > HEALTHY_AFTER
            self._pause = RETRY_INTERVALS[0] if is_healthy else min(2 * self._pause, RETRY_INTERVALS[1])
            self._not_before = now + (0 if is_healthy or self._uid in deleted else self._pause)
        # A pod without a running container accepts no forward.
        is_up = wanted is not None and wanted.data.get("status", {}).get("phase") == "Running"
        if wanted and is_up and time.monotonic() >= self._not_before:
            self._start(wanted)

    def _start(self, pod: Pod) -> None:
        print(f"{self._target.name}: {', '.join(self._target.pairs)} of {pod.name}", flush=True)
        self._uid, self._started = pod.uid, time.monotonic()
        self._child = self._kubectl.popen(
            "port-forward", ADDRESS, f"pod/{pod.name}", *self._target.pairs, output=subprocess.DEVNULL, errors=STDERR
        )

    def end(self) -> None:
        """End the forward."""
        if self._child:
            self._child.terminate()
            self._child.wait()


def main(plan: Plan) -> None:
    """Keep all forwards until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    kubectl = Kubectl(plan.cluster)
    pods = Pods(kubectl)
    pods.start()
    forwards = [Forward(kubectl, target) for target in plan.targets]
    try:
        while True:
            for forward in forwards:
                forward.keep(pods.all, pods.deleted)
            time.sleep(INTERVAL)
    finally:
        for forward in forwards:
            forward.end()


if __name__ == "__main__":
    main(Plan.from_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
