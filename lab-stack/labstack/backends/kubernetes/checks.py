"""The checks of `lab doctor` for a cluster."""

from __future__ import annotations

from labstack.backends.kubernetes.attachment import Attachment, discover
from labstack.backends.kubernetes.components import BROKER_PORT
from labstack.backends.kubernetes.kubectl import Cluster, Kubectl
from labstack.backends.kubernetes.rights import missing, needed
from labstack.config.paths import LabPaths
from labstack.config.services import load_services
from labstack.errors import LabError
from labstack.findings import Finding
from labstack.ports import free as ports


def _kubectl(paths: LabPaths) -> tuple[Kubectl, Attachment | None]:
    attachment = Attachment.read(paths)
    return Kubectl(attachment.cluster if attachment else Cluster.requested()), attachment


def cluster(paths: LabPaths) -> Finding:
    """Check that kubectl is installed, and that the cluster answers."""
    kubectl, _ = _kubectl(paths)
    versions = kubectl.json("version")
    client, server = (versions[name]["gitVersion"] for name in ("clientVersion", "serverVersion"))
    return Finding("cluster", "ok", f"Kubernetes {server}, kubectl {client}")


def installation(paths: LabPaths) -> Finding:
    """Check that the namespace has an installation of the chart."""
    kubectl, _ = _kubectl(paths)
    found = discover(kubectl, load_services())
    parts = [
        f"Kafka: {f'{len(found.brokers)} brokers of Strimzi' if found.has_strimzi else 'one broker'}",
        f"gateway: {'yes' if found.gateway else 'no'}",
        *found.observers,
    ]
    return Finding("installation", "ok", f"{kubectl.cluster}; {', '.join(parts)}")


def rights(paths: LabPaths) -> Finding:
    """Check that the cluster permits what the lab's commands do."""
    kubectl, attachment = _kubectl(paths)
    services = load_services()
    if attachment is None:
        try:
            attachment = discover(kubectl, services)
        except LabError:  # a right is missing, or the installation, which is another finding
            attachment = Attachment(kubectl.cluster)
    lacking = missing(kubectl, needed(attachment, services))
    if lacking:
        advice = (
            f"ask the cluster's administrator for these rights in the namespace {kubectl.cluster.namespace}; "
            "deploy/lab-user.yaml grants them all"
        )
        return Finding("rights", "warning", f"you may not: {', '.join(map(str, lacking))}", advice)
    return Finding("rights", "ok", "you may do everything that the lab's commands do")


def broker_port(paths: LabPaths) -> Finding:
    """Check that the first broker's port is free, if the lab is not attached."""
    _, attachment = _kubectl(paths)
    if attachment:
        return Finding("ports", "ok", f"the lab forwards port {BROKER_PORT} to the first broker")
    if ports.is_free(BROKER_PORT):
        return Finding("ports", "ok", f"port {BROKER_PORT} is free; the lab forwards it to the first broker")
    raise LabError(
        f"Port {BROKER_PORT} is taken by {ports.who_listens(BROKER_PORT)}.",
        next_step="stop that program: the brokers on the cluster advertise this port",
    )
