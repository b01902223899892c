"""The objects on the cluster that run the components: their pods, and how to stop, start and inspect them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from labstack.backends.base import ComponentState
from labstack.errors import LabError

Object = dict[str, Any]
"""An object of the Kubernetes API."""

REPLICAS = "saga-lab/replicas"
"""Annotation of an object that the lab has scaled to 0: the number of replicas before."""
PAUSED = "saga-lab/paused"
"""Annotation of a paused pod: the ids of the containers whose processes are paused. A new container runs."""
HIBERNATION = "cnpg.io/hibernation"
"""Annotation with which CloudNativePG stops a cluster's pods and keeps the volumes."""


@dataclass(frozen=True)
class Pod:
    """One pod.

    Parameters
    ----------
    data : dict
        The object.
    """

    data: Object

    @property
    def name(self) -> str:
        return str(self.data["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.data["metadata"]["uid"])

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.data["metadata"].get("labels", {})
        return labels

    @property
    def is_terminating(self) -> bool:
        """Whether the pod was deleted and has not ended yet."""
        return "deletionTimestamp" in self.data["metadata"]

    @property
    def is_ready(self) -> bool:
        """Whether the pod's readiness probes succeed."""
        conditions = self.data.get("status", {}).get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Return whether the pod has these labels."""
        return all(self.labels.get(name) == value for name, value in labels.items())

    def container(self, name: str) -> Object:
        """Return the status of a container; empty if it does not exist yet."""
        status = self.data.get("status", {})
        every = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        return next((one for one in every if one["name"] == name), {})

    def runs(self, container: str) -> bool:
        """Return whether a container runs."""
        return "running" in self.container(container).get("state", {})

    def is_paused(self, container: str) -> bool:
        """Return whether the lab has paused the processes of the running container."""
        mark = self.data["metadata"].get("annotations", {}).get(PAUSED, "")
        return bool(mark) and mark == self.container(container).get("containerID", "") and self.runs(container)

    def problem(self, container: str) -> str:
        """Return why a container does not run, in Kubernetes' words; empty if it runs."""
        status = self.container(container)
        if self.runs(container):
            return ""
        state = status.get("state", {})
        reason = state.get("waiting", {}).get("reason") or state.get("terminated", {}).get("reason")
        conditions = self.data.get("status", {}).get("conditions", ())
        unscheduled = [
            c.get("message", "") for c in conditions if c["type"] == "PodScheduled" and c["status"] != "True"
        ]
        return f"pod {self.name}: {reason or '; '.join(unscheduled) or self.data.get('status', {}).get('phase', '')}"


class ClusterObjects:
    """The lab's objects on the cluster at one moment.

    Parameters
    ----------
    items : iterable of dict
        The objects.
    """

    def __init__(self, items: Iterable[Object]) -> None:
        self._items = list(items)

    @cached_property
    def pods(self) -> list[Pod]:
        """The pods that have not ended, the oldest first."""
        pods = [Pod(item) for item in self._items if item["kind"] == "Pod"]
        alive = [pod for pod in pods if pod.data.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
        return sorted(alive, key=lambda pod: (pod.data["metadata"]["creationTimestamp"], pod.name))

    def find(self, kind: str, name: str) -> Object:
        """Return an object; empty if it does not exist."""
        found = (item for item in self._items if item["kind"] == kind and item["metadata"]["name"] == name)
        return next(found, {})


@dataclass(frozen=True)
class Workload(ABC):
    """An object that runs pods.

    Attributes
    ----------
    resource : str
        Resource in kubectl's spelling, such as ``deployments.apps``.
    kind : str
        Its kind, such as ``Deployment``.
    name : str
        Name of the object.
    labels : mapping
        Labels of its pods.
    container : str
        The container that runs the component's program.
    process : str
        Name of the program's processes; empty for every process that the container's user may stop.
    victims : mapping
        Further labels of the pods that a kill deletes.
    """

    resource: str
    kind: str
    name: str
    labels: Mapping[str, str]
    container: str
    process: str = ""
    victims: Mapping[str, str] = field(default_factory=dict)

    def object(self, snapshot: ClusterObjects) -> Object:
        """Return the object in a snapshot."""
        return snapshot.find(self.kind, self.name)

    def pods(self, snapshot: ClusterObjects) -> list[Pod]:
        """Return the pods in a snapshot."""
        return [pod for pod in snapshot.pods if pod.matches(self.labels)]

    def state(self, snapshot: ClusterObjects) -> ComponentState:
        """Return the state of the component."""
        pods = [pod for pod in self.pods(snapshot) if not pod.is_terminating]
        if any(pod.is_paused(self.container) for pod in pods):
            return "paused"
        if any(pod.runs(self.container) for pod in pods):
            return "running"
        return "stopped" if self.is_stopped(snapshot) else "failed"

    @abstractmethod
    def is_stopped(self, snapshot: ClusterObjects) -> bool:
        """Return whether the object should run no pods."""

    @abstractmethod
    def stop_patch(self, snapshot: ClusterObjects) -> Object:
        """Return the merge patch that stops all pods."""

    @abstractmethod
    def start_patch(self, snapshot: ClusterObjects) -> Object:
        """Return the merge patch that starts the pods again."""

    def patch(self, change: Object, kind: str = "merge") -> list[str]:
        """Return the arguments with which kubectl patches the object."""
        return ["patch", self.resource, self.name, f"--type={kind}", f"--patch={json.dumps(change)}"]


@dataclass(frozen=True)
class Scaled(Workload):
    """An object with a number of replicas: a Deployment, a StatefulSet, a KafkaConnect or a Prometheus."""

    def is_stopped(self, snapshot: ClusterObjects) -> bool:
        return self.object(snapshot).get("spec", {}).get("replicas", 1) == 0

    def stop_patch(self, snapshot: ClusterObjects) -> Object:
        replicas = self.object(snapshot).get("spec", {}).get("replicas", 1)
        return {"metadata": {"annotations": {REPLICAS: str(replicas)}}, "spec": {"replicas": 0}}

    def start_patch(self, snapshot: ClusterObjects) -> Object:
        before = self.object(snapshot).get("metadata", {}).get("annotations", {}).get(REPLICAS, "")
        replicas = int(before) if before.isdecimal() and int(before) else 1
        return {"metadata": {"annotations": {REPLICAS: None}}, "spec": {"replicas": replicas}}


@dataclass(frozen=True)
class Hibernated(Workload):
    """A database cluster of CloudNativePG, which hibernates instead of being scaled to 0."""

    def is_stopped(self, snapshot: ClusterObjects) -> bool:
        annotations = self.object(snapshot).get("metadata", {}).get("annotations", {})
        return bool(annotations.get(HIBERNATION) == "on")

    def stop_patch(self, snapshot: ClusterObjects) -> Object:
        return {"metadata": {"annotations": {HIBERNATION: "on"}}}

    def start_patch(self, snapshot: ClusterObjects) -> Object:
        return {"metadata": {"annotations": {HIBERNATION: "off"}}}


@dataclass(frozen=True)
class Brokers(Workload):
    """Strimzi's brokers, which can't be stopped: the operator replaces each pod, and a node pool has no 0 replicas."""

    def is_stopped(self, snapshot: ClusterObjects) -> bool:
        return False

    def stop_patch(self, snapshot: ClusterObjects) -> Object:
        raise LabError(
            "Strimzi's brokers can't be stopped: its operator starts every missing broker again.",
            next_step="use `lab pause kafka`, which suspends them until `lab resume kafka`, or `lab kill kafka`",
        )

    def start_patch(self, snapshot: ClusterObjects) -> Object:
        return {}


SWITCHES = "LAB_TEACHING_SWITCHES"
"""The variable with a service's fault switches."""


def container_switches(deployment: Object) -> dict[str, str]:
    """Return the fault switches that the first container of a Deployment has, and their values."""
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    variables = containers[0].get("env", ()) if containers else ()
    text = next((one.get("value", "") for one in variables if one["name"] == SWITCHES), "")
    return {name: value for name, _, value in (one.partition("=") for one in text.split(",") if one)}


def switches_patch(container: str, text: str) -> Object:
    """Return the strategic merge patch that sets the fault switches of a container, or removes them."""
    variable = {"name": SWITCHES, "value": text} if text else {"name": SWITCHES, "$patch": "delete"}
    return {"spec": {"template": {"spec": {"containers": [{"name": container, "env": [variable]}]}}}}
