"""What a test cluster has before the chart: DNS, volumes, and the operators from their own manifests and charts."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from labstack.config.templates import fill
from tests.cluster.cluster import Cluster
from tests.cluster.images import image
from tests.containers.standins import standins

DOCUMENTS = Path(__file__).parent / "documents"
VOLUMES = 24
VOLUME_SIZE = "4Gi"
READY = "5m"
"""Time until an operator must be ready."""


def prepare(cluster: Cluster) -> None:
    """Install DNS, volumes and every operator, and wait until they are ready."""
    install_dns(cluster)
    make_volumes(cluster)
    install_cnpg(cluster)
    install_istio(cluster)
    install_prometheus_operator(cluster)
    define_strimzi(cluster)
    for namespace in ("kube-system", "cnpg-system", "istio-system", "monitoring"):
        cluster.kubectl("--namespace", namespace, "rollout", "status", "deployment", "--timeout", READY)


def install_dns(cluster: Cluster) -> None:
    """Install CoreDNS."""
    cluster.apply(fill(DOCUMENTS / "dns.yaml", {"COREDNS": image("coredns")}))


def make_volumes(cluster: Cluster) -> None:
    """Make volumes beforehand. Every node reaches them, like volumes on a network."""
    storage: list[dict[str, Any]] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": "test", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ]
    for number in range(VOLUMES):
        folder = cluster.home / "volumes" / f"{number:02}"
        folder.mkdir()
        folder.chmod(0o777)
        spec = {
            "storageClassName": "test",
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder)},
        }
        name = {"name": f"volume-{number:02}"}
        storage.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": name, "spec": spec})
    cluster.apply(*storage)


def install_cnpg(cluster: Cluster) -> None:
    """Install CloudNativePG from its release manifest, with the stand-in as image."""
    (manifest,) = (cluster.programs / "definitions" / "cloudnative-pg").glob("*.yaml")
    text = re.sub(r"ghcr\.io/cloudnative-pg/cloudnative-pg:[\w.]+", image("cloudnative-pg"), manifest.read_text())
    text = text.replace("imagePullPolicy: Always", "imagePullPolicy: IfNotPresent")
    cluster.apply(text)


def install_istio(cluster: Cluster) -> None:
    """Install Istio's definitions and its control plane from its charts, with stand-ins as images."""
    charts = cluster.programs / "charts"
    values = fill(DOCUMENTS / "istiod.yaml", {"PROXY": image("proxyv2"), "PILOT": image("pilot")})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values)
        file.flush()
        install = ("helm", "upgrade", "--install", "--namespace", "istio-system", "--create-namespace")
        cluster.run(*install, "istio-base", charts / "base")
        cluster.run(*install, "istiod", charts / "istio-discovery", "--values", file.name)


def install_prometheus_operator(cluster: Cluster) -> None:
    """Install Prometheus' operator from its release bundle, with stand-ins as images."""
    (manifest,) = (cluster.programs / "definitions" / "prometheus-operator").glob("*.yaml")
    text = manifest.read_text().replace("namespace: default", "namespace: monitoring")
    for name in ("prometheus-operator", "prometheus-config-reloader"):
        text = re.sub(rf"quay\.io/prometheus-operator/{name}:v[\d.]+", image(name), text)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}}, text)


def define_strimzi(cluster: Cluster) -> None:
    """Define Strimzi's kinds. Its operator is in no registry, so nothing acts on them."""
    for file in sorted((cluster.programs / "definitions" / "strimzi").glob("*.yaml")):
        cluster.apply(file.read_text())


def image_values() -> dict[str, Any]:
    """Return the chart's values that replace the official images by stand-ins. Without a stand-in, Jaeger is off."""
    jaeger = {"jaeger": "jaeger"} if "jaeger" in standins() else {}
    names = {"postgresql": "cnpg-postgresql", "kafka": "kafka", "connect": "connect", "prometheus": "prometheus"}
    images = {key: image(name) for key, name in (names | jaeger).items()}
    return {"images": images, "tracing": {"jaeger": bool(jaeger)}}
