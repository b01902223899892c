"""A user of the cluster with the rights of `deploy/lab-user.yaml`, and one with fewer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.attached import lab
from tests.cluster.cluster import Cluster
from tests.cluster.installation import NAMESPACE, namespaced
from tools.make_chart import LAB_USER

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600), pytest.mark.xdist_group("cluster")]

USER = "ada"
CHANGE = Path(__file__).parent / "documents" / "changed-routes.yaml"
"""A change that creates, replaces and, after a reset, deletes objects."""


@pytest.fixture
def as_user(lab_cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """Return the cluster for a user who has only the role of a lab user; afterwards the user is deleted."""
    namespaced(lab_cluster, "apply", "--filename", str(LAB_USER))
    namespaced(lab_cluster, "create", "serviceaccount", USER)
    namespaced(lab_cluster, "create", "rolebinding", USER, "--role=lab-user", f"--serviceaccount={NAMESPACE}:{USER}")
    token = namespaced(lab_cluster, "create", "token", USER).strip()
    configuration = yaml.safe_load(Path(lab_cluster.environment["KUBECONFIG"]).read_text(encoding="utf-8"))
    for entry in configuration["users"]:
        entry["user"] = {"token": token}
    home = tmp_path / "home"
    (home / "pki").mkdir(parents=True)
    (home / "pki" / "admin.kubeconfig").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    user = dataclasses.replace(lab_cluster, home=home)
    yield user
    lab(user, "down", check=False)
    namespaced(lab_cluster, "delete", f"serviceaccount/{USER}", f"rolebinding/{USER}", "role/lab-user")


def rights_of(cluster: Cluster) -> dict[str, str]:
    """Return what `lab doctor` finds about the user's rights."""
    report: list[dict[str, str]] = json.loads(lab(cluster, "doctor", "--json", check=False).splitlines()[0])
    (found,) = [one for one in report if one["check"] == "rights"]
    return found


def test_a_lab_user_can_run_every_command(as_user: Cluster) -> None:
    """The role suffices for the commands that read and change a cluster, and `lab doctor` agrees."""
    assert rights_of(as_user)["verdict"] == "ok"
    lab(as_user, "up")
    for command in (
        ["status"],
        ["demo"],
        ["check"],
        ["logs", "order"],
        ["pause", "shipping"],
        ["resume", "shipping"],
        ["switch", "on", "payment", "slow-handler=0.1"],
        ["switch", "off", "payment"],
        ["kill", "payment"],
        ["stop", "inventory"],
        ["start", "inventory"],
        ["mesh", "show"],
        ["mesh", "diff"],
        ["mesh", "apply", str(CHANGE)],
        ["mesh", "reset"],
        ["stop", "prometheus"],
        ["start", "prometheus"],
        ["reset"],
        ["status"],
    ):
        lab(as_user, *command)


def test_doctor_names_a_missing_right(lab_cluster: Cluster, as_user: Cluster) -> None:
    """Without the right to delete pods, `lab doctor` names the right and the command that needs it."""
    role = lab_cluster.get("--namespace", NAMESPACE, "role", "lab-user")
    for rule in role["rules"]:
        rule["verbs"] = [verb for verb in rule["verbs"] if not (rule["resources"] == ["pods"] and verb == "delete")]
    lab_cluster.apply(
        {key: value for key, value in role.items() if key != "metadata"}
        | {"metadata": {"name": "lab-user", "namespace": NAMESPACE}}
    )
    found = rights_of(as_user)
    assert found["verdict"] == "warning"
    assert "you may not: delete pods (lab kill)" in found["seen"]


def test_doctor_names_the_rights_of_a_user_without_any(lab_cluster: Cluster, as_user: Cluster) -> None:
    """A user without a role learns every missing right, and which file grants them."""
    namespaced(lab_cluster, "delete", f"rolebinding/{USER}")
    namespaced(lab_cluster, "create", "rolebinding", USER, "--clusterrole=view", "--user=nobody")
    found = rights_of(as_user)
    assert "get secrets (lab up)" in found["seen"]
    assert "deploy/lab-user.yaml" in found["advice"]
