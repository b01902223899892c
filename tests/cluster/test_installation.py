"""The chart on a real cluster of two nodes: everything starts, an order completes, bad input is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster import installation
from tests.cluster.cluster import Cluster, ClusterFailed
from tests.cluster.installation import NAMESPACE, namespaced
from tests.cluster.ordering import gateway_url, place_orders

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600), pytest.mark.xdist_group("cluster")]
DOCUMENTS = Path(__file__).parent / "documents"


def test_every_pod_runs(lab_cluster: Cluster) -> None:
    """The broker, Connect and a service run, and no pod has failed."""
    pods = lab_cluster.get("--namespace", NAMESPACE, "pods")["items"]
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    assert {pod["metadata"]["labels"].get("app.kubernetes.io/name") for pod in running} >= {"kafka", "connect", "order"}
    assert {pod["status"]["phase"] for pod in pods} <= {"Running", "Succeeded"}


def test_orders_complete(lab_cluster: Cluster) -> None:
    """Orders that enter through Istio's gateway are COMPLETED."""
    outcome = place_orders(lab_cluster, 10, 2.0)
    assert outcome.unanswered == 0
    assert set(outcome.orders.values()) == {"COMPLETED"}


def test_mesh_refuses_a_client_without_certificate(lab_cluster: Cluster) -> None:
    """A pod outside the mesh can't call a service, because mTLS is STRICT."""
    probe = "import urllib.request as u; u.urlopen('http://order:8000/healthz/live', timeout=10)"
    watcher = ("exec", "deployment/connect-watcher", "--", "python", "-c", probe)
    with pytest.raises(ClusterFailed, match=r"reset|refused|Remote end closed"):
        namespaced(lab_cluster, *watcher)


def test_authorization_policy_refuses_another_service(lab_cluster: Cluster) -> None:
    """A service of the mesh can't call another service: only the gateway may."""
    probe = (
        "import urllib.request as u, urllib.error as e\n"
        "try: u.urlopen('http://payment:8000/payments', timeout=10)\n"
        "except e.HTTPError as error: print(error.code, error.read().decode())"
    )
    answer = namespaced(lab_cluster, "exec", "deployment/order", "--container", "order", "--", "python", "-c", probe)
    assert answer.startswith("403 RBAC")


def test_gateway_does_not_publish_the_management_paths(lab_cluster: Cluster) -> None:
    """The gateway has no route to a service's /manage."""
    words = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}")
    assert lab_cluster.run(*words, f"{gateway_url(lab_cluster)}/manage") == "404"


def test_helm_refuses_a_bad_values_file(lab_cluster: Cluster) -> None:
    """Helm refuses a misspelt value with its name, and changes nothing."""
    before = lab_cluster.run("helm", "history", installation.RELEASE, "--namespace", NAMESPACE, "--output", "json")
    with pytest.raises(ClusterFailed, match="replica"):
        installation.upgrade(lab_cluster, "--set", "services.replica=2")
    after = lab_cluster.run("helm", "history", installation.RELEASE, "--namespace", NAMESPACE, "--output", "json")
    assert json.loads(after) == json.loads(before)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("cluster-without-instances", "spec.instances"),
        ("connect-without-topics", "KafkaConnect"),
        ("route-and-redirect", "redirect"),
        ("monitor-with-wrong-interval", "interval"),
    ],
)
def test_api_server_refuses_bad_objects(lab_cluster: Cluster, document: str, reason: str) -> None:
    """The operators' definitions and webhooks refuse an object that they can't act on, with a reason."""
    file = DOCUMENTS / "refused" / f"{document}.yaml"
    answer = namespaced(lab_cluster, "apply", "--dry-run=server", "-f", str(file), check=False)
    assert reason in answer
    assert "created" not in answer
