"""The rendered chart is valid, and as secure as Pod Security `restricted` requires."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.deploy.rendering import VARIANTS, documents, of_kind, pod_templates, problems
from tools import make_chart, make_kubernetes_schemas


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_document_is_valid_against_the_schema_of_its_kind(variant: str) -> None:
    """Each document is valid against Kubernetes' schema or its custom resource definition, and has no unknown field."""
    found = {f"{one['kind']} {one['metadata']['name']}": problems(one) for one in documents(variant)}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_schema_check_finds_a_wrong_field() -> None:
    """A misspelt field is reported, in a custom resource and in Kubernetes' own kind."""
    (cluster, *_) = of_kind("Cluster").values()
    cluster["spec"]["postgresql"]["paramters"] = {}
    (deployment, *_) = of_kind("Deployment").values()
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicys"] = "Always"
    assert "paramters" in problems(cluster)[0]
    assert "imagePullPolicys" in problems(deployment)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_document_is_rendered_twice(variant: str) -> None:
    """Kind and name of each document are unique."""
    names = [(one["kind"], one["metadata"]["name"]) for one in documents(variant)]
    assert len(names) == len(set(names))


def all_containers(variant: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    return {
        f"{name}/{container['name']}": (template["spec"], container)
        for name, template in pod_templates(variant).items()
        for container in template["spec"]["containers"]
    }


@pytest.mark.parametrize("variant", ["default", "plain"])
def test_own_pods_are_restricted_and_read_only(variant: str) -> None:
    """Each container runs as a numbered user without rights, on a read-only root file system, with resources."""
    found = all_containers(variant)
    assert {"order/order", "connect-watcher/connect-watcher", "jaeger/jaeger", "gateway/istio-proxy"} <= set(found)
    for name, (pod, container) in found.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert pod["automountServiceAccountToken"] is False, name
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        assert not any("hostPath" in volume for volume in pod.get("volumes", ())), name


def test_operators_pods_are_restricted() -> None:
    """Strimzi's pods get the security context of Pod Security `restricted`; CloudNativePG's pods have it anyway."""
    kafka, connect = of_kind("Kafka")["saga"]["spec"], of_kind("KafkaConnect")["saga"]["spec"]
    templates = [
        (kafka["kafka"]["template"], "kafkaContainer"),
        (kafka["entityOperator"]["template"], "topicOperatorContainer"),
        (connect["template"], "connectContainer"),
    ]
    for template, container in templates:
        assert template["pod"]["securityContext"] == {
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert template[container]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert template[container]["securityContext"]["allowPrivilegeEscalation"] is False


@pytest.mark.parametrize("variant", ["default", "plain", "no mesh"])
def test_references_between_documents_resolve(variant: str) -> None:
    """Each Secret, ConfigMap and ServiceAccount that a pod uses is rendered, and each selector finds a pod."""
    rendered = {(one["kind"], one["metadata"]["name"]) for one in documents(variant)}
    templates = pod_templates(variant)
    for name, template in templates.items():
        pod = template["spec"]
        used = {("Secret", volume["secret"]["secretName"]) for volume in pod.get("volumes", ()) if "secret" in volume}
        used |= {
            ("ConfigMap", volume["configMap"]["name"]) for volume in pod.get("volumes", ()) if "configMap" in volume
        }
        for container in pod["containers"]:
            for entry in container.get("env", ()):
                if "valueFrom" in entry:
                    used.add(("Secret", entry["valueFrom"]["secretKeyRef"]["name"]))
        if "serviceAccountName" in pod:
            used.add(("ServiceAccount", pod["serviceAccountName"]))
        assert used <= rendered, name
    labels = [template["metadata"]["labels"].items() for template in templates.values()]
    selectors = {f"Service {name}": one["spec"]["selector"] for name, one in of_kind("Service", variant).items()}
    budgets = of_kind("PodDisruptionBudget", variant)
    selectors |= {f"budget {name}": one["spec"]["selector"]["matchLabels"] for name, one in budgets.items()}
    for name, selector in selectors.items():
        assert any(selector.items() <= of_pod for of_pod in labels), name


def test_rendered_manifests_are_current() -> None:
    """`deploy/manifests/saga-lab.yaml` is what Helm renders with the default values and existing Secrets."""
    documents("existing Secrets")  # skips where there is no Helm
    stored = (make_chart.MANIFESTS / "saga-lab.yaml").read_text(encoding="utf-8")
    assert stored == make_chart.manifests(), "run python tools/make_chart.py"


def test_role_of_a_lab_user_is_current() -> None:
    """`deploy/lab-user.yaml` grants the rights that `lab doctor` checks, for an installation with any values."""
    assert make_chart.LAB_USER.read_text(encoding="utf-8") == make_chart.lab_user(), "run python tools/make_chart.py"


def test_kustomization_lists_every_manifest() -> None:
    """The kustomization has exactly the files beside it, and no Secret is among them."""
    folder = make_chart.MANIFESTS
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert {*listed, "kustomization.yaml"} == {file.name for file in folder.iterdir()}
    kinds = {
        one["kind"]
        for name in listed
        for one in yaml.load_all((folder / name).read_text(encoding="utf-8"), yaml.CSafeLoader)
        if one
    }
    assert "Namespace" in kinds
    assert "Secret" not in kinds


@pytest.mark.long
def test_schemas_are_those_of_the_pinned_operators(tmp_path: Any) -> None:
    """The stored schemas are what the operators' modules and jars of the pinned versions define."""
    make_kubernetes_schemas.main(tmp_path)
    for file in make_kubernetes_schemas.FOLDER.glob("*.json"):
        assert file.read_text(encoding="utf-8") == (tmp_path / file.name).read_text(encoding="utf-8"), file.name
