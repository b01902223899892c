"""The installation that a lab is attached to: what it consists of, and the passwords of its databases.

The lab stores it while it is attached, readable by the user only. So each verb knows the components without a request
to the cluster.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labstack.backends.components import Jaeger, Prometheus
from labstack.backends.kubernetes.kubectl import Cluster, Kubectl, KubectlFailed
from labstack.clients.database_server import OPERATOR, READER, RELAY, DatabaseServer, write_private
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry, instance_name
from labstack.errors import ClusterUnavailable, LabError

PROMETHEUS_SET = "prometheus-saga-lab"
"""The StatefulSet that Prometheus' operator creates for the chart's Prometheus."""

NODE_POOL = "kafkanodepools.kafka.strimzi.io"


@dataclass(frozen=True)
class Attachment:
    """An installation of the chart.

    Attributes
    ----------
    cluster : Cluster
        Where it is.
    brokers : tuple of int
        The node ids of Strimzi's brokers; empty for the single broker of ``kafka.mode: plain``.
    gateway : bool
        Whether it has a gateway (``mesh.enabled``).
    versions : tuple of str
        The names of the further versions of services, such as ``order-v2``.
    observers : tuple of str
        The observability components that the lab reaches.
    passwords : mapping
        Password by database component and role.
    """

    cluster: Cluster
    brokers: tuple[int, ...] = ()
    gateway: bool = True
    versions: tuple[str, ...] = ("order-v2",)
    observers: tuple[str, ...] = ()
    passwords: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    @property
    def has_strimzi(self) -> bool:
        """Whether Strimzi runs Kafka and Connect."""
        return bool(self.brokers)

    def write(self, paths: LabPaths) -> None:
        """Store the attachment."""
        write_private(_file(paths), json.dumps(asdict(self)))

    @classmethod
    def read(cls, paths: LabPaths) -> Attachment | None:
        """Return the stored attachment; None if the lab is not attached."""
        try:
            raw: dict[str, Any] = json.loads(_file(paths).read_text(encoding="utf-8"))
            lists = {name: tuple(raw[name]) for name in ("brokers", "versions", "observers")}
            return cls(**{**raw, **lists, "cluster": Cluster(**raw["cluster"])})
        except (OSError, ValueError, LookupError, TypeError):
            return None

    @staticmethod
    def delete(paths: LabPaths) -> None:
        """Delete the stored attachment."""
        _file(paths).unlink(missing_ok=True)


def _file(paths: LabPaths) -> Path:
    return paths.config("kubernetes") / "attachment.json"


def discover(kubectl: Kubectl, services: Iterable[ServiceEntry]) -> Attachment:
    """Return the installation in a namespace.

    Raises
    ------
    LabError
        The namespace has no complete installation.
    ClusterUnavailable
        The cluster does not answer, or refuses a request.
    """
    services = tuple(services)
    found = {item["metadata"]["name"]: item for item in kubectl.items("deployments.apps,statefulsets.apps")}
    missing = [service.name for service in services if not _is_ours(found.get(service.name))]
    if missing:
        what = "no installation of Saga Lab" if len(missing) == len(services) else f"no Deployment {missing[0]}"
        raise LabError(
            f"The cluster has {what} in the {kubectl.cluster}.",
            next_step="install the chart (`helm install saga-lab deploy/saga-lab ...`, docs/kubernetes.md), or set "
            "LAB_KUBE_NAMESPACE and LAB_KUBE_CONTEXT to where it is",
        )
    versions = [instance_name(service, version) for service in services for version in service.versions]
    there = {"prometheus": PROMETHEUS_SET in found, "jaeger": "jaeger" in found}
    return Attachment(
        cluster=kubectl.cluster,
        brokers=() if "kafka" in found else _brokers(kubectl),
        gateway="gateway" in found,
        versions=tuple(name for name in versions if name in found),
        observers=tuple(name for name in (Prometheus.name, Jaeger.name) if there[name]),
        passwords=_passwords(kubectl, services),
    )


def _is_ours(item: dict[str, Any] | None) -> bool:
    labels = item["metadata"].get("labels", {}) if item else {}
    return labels.get("app.kubernetes.io/part-of") == "saga-lab"


def _brokers(kubectl: Kubectl) -> tuple[int, ...]:
    try:
        pool = kubectl.json("get", NODE_POOL, "brokers")
    except KubectlFailed:
        pool = {}
    ids = pool.get("status", {}).get("nodeIds") or range(pool.get("spec", {}).get("replicas", 0))
    if not ids:
        raise LabError(
            f"The installation in the {kubectl.cluster} has neither a StatefulSet kafka nor a KafkaNodePool brokers.",
            next_step="complete it with `helm upgrade --install` (docs/kubernetes.md)",
        )
    return tuple(int(node) for node in ids)


def _passwords(kubectl: Kubectl, services: tuple[ServiceEntry, ...]) -> dict[str, dict[str, str]]:
    wanted = {(s.database, role): f"{s.database}-{role}" for s in services for role in (OPERATOR, READER, RELAY)}
    secrets = {item["metadata"]["name"]: item for item in kubectl.items("secrets", *wanted.values())}
    passwords: dict[str, dict[str, str]] = {}
    for (database, role), name in wanted.items():
        passwords.setdefault(database, {})[role] = base64.b64decode(secrets[name]["data"]["password"]).decode()
    return passwords


@dataclass(frozen=True)
class ClusterDatabase(DatabaseServer):
    """A database server on a cluster. Its passwords are in Secrets.

    Parameters
    ----------
    passwords : mapping
        Password by role.
    """

    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)

    def password(self, role: str) -> str:
        """Return the password of a role.

        Raises
        ------
        ClusterUnavailable
            The lab has no access to the role.
        """
        if role not in self.passwords:
            raise ClusterUnavailable(
                f"The lab can't log in to the database of {self.service} as {role}: on a cluster, it has only the "
                f"roles {', '.join(self.passwords) or 'that it reads when it attaches'}.",
                next_step="run `lab up` if the lab is not attached; use a lab of another mode for an extension service",
            )
        return self.passwords[role]
