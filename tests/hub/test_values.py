"""The values for zero-to-jupyterhub: every key means something, and the learners' pods are confined."""

from __future__ import annotations

import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labstack.config.variables import VARIABLES
from tests.hub.chart import ROOT, VALUES, settings, values

CONTAINERFILE = (ROOT / "deploy" / "hub" / "Containerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
GIGABYTE = 2**30


@pytest.fixture(scope="module")
def applied(hub_python: Path) -> dict[str, Any]:
    """Return what the installed JupyterHub and KubeSpawner make of the values."""
    done = subprocess.run([hub_python, "-m", "tests.hub.inside"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_key_is_applied(applied: dict[str, Any]) -> None:
    """Each key is one of the chart's, and each setting, also of the page, is a trait of JupyterHub or KubeSpawner."""
    assert applied["unknown"] == []


@pytest.mark.parametrize("path", ["singleuser.memory.limits", "hub.concurrentSpawnLimits", "cull.timeouts"])
def test_a_misspelt_key_is_found(path: str) -> None:
    """A key that the chart does not have is reported with its path."""
    wrong = copy.deepcopy(values())
    place = wrong
    *folders, name = path.split(".")
    for folder in folders:
        place = place[folder]
    place[name] = 1
    with pytest.raises(KeyError, match=re.escape(path)):
        settings(wrong)


def test_a_learners_pod_satisfies_pod_security_restricted(applied: dict[str, Any]) -> None:
    """No container of the pod is privileged, runs as root, keeps a capability or gets a token of the cluster."""
    spec = applied["pod"]["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", [])]
    for one in containers:
        context = one["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == 1000
        assert not context["allowPrivilegeEscalation"]
        assert not context.get("privileged")
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert {kind for volume in spec["volumes"] for kind in volume} <= {"name", "persistentVolumeClaim", "emptyDir"}
    assert values()["singleuser"]["cloudMetadata"]["blockWithIptables"] is False, "needs a privileged container"


def test_a_learner_gets_the_measured_resources(applied: dict[str, Any]) -> None:
    """A pod requests the memory that a lab with JupyterLab uses, and may use at most 2 GB and two cores."""
    resources = applied["pod"]["spec"]["containers"][0]["resources"]
    assert 1.2 * GIGABYTE < resources["requests"]["memory"] < 1.4 * GIGABYTE
    assert resources["limits"]["memory"] == 2 * GIGABYTE
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == (0.5, 2)


def test_the_lab_runs_as_processes_and_stops_in_order(applied: dict[str, Any]) -> None:
    """The lab uses no Docker, its settings exist, and the pod has time to stop the lab before it is killed."""
    container = applied["pod"]["spec"]["containers"][0]
    given = {one["name"]: one["value"] for one in container["env"] if one["name"].startswith("LAB_")}
    assert given["LAB_MODE"] == "local"
    assert set(given) <= set(VARIABLES)
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["lab", "down"]
    assert values()["hub"]["config"]["KubeSpawner"]["delete_grace_period"] >= 30


def test_only_the_hub_is_reachable_from_a_learners_pod() -> None:
    """The network policies let a learner's pod reach the hub and the progress service, and no other address."""
    user, hub = values()["singleuser"]["networkPolicy"], values()["hub"]
    assert user.get("enabled", True)
    assert not any(user["egressAllowRules"].values())
    assert "ingress" not in user
    (rule,) = user["egress"]
    assert rule["to"] == [{"podSelector": {"matchLabels": {"app": "jupyterhub", "component": "hub"}}}]
    ports = {rule["ports"][0]["port"], hub["networkPolicy"]["ingress"][0]["ports"][0]["port"]}
    ports |= {one["targetPort"] for one in hub["service"]["extraPorts"]}
    ports |= {one["ports"][0]["port"] for one in values()["proxy"]["chp"]["networkPolicy"]["egress"]}
    assert ports == {10101}


def test_the_progress_service_gets_the_learners_reports() -> None:
    """Learners report to the address of the service, whose command is the mounted file."""
    hub, user = values()["hub"], values()["singleuser"]
    service = hub["services"]["progress"]
    assert user["extraEnv"]["LAB_PROGRESS_URL"] == f"{service['url']}/services/progress/hand-in"
    assert hub["extraFiles"]["progress"]["mountPath"] in service["command"]
    assert "stringData=deploy/hub/progress.py" in PAGE


def test_the_progress_service_needs_only_what_the_hubs_image_has() -> None:
    """The service imports the standard library, Tornado and JupyterHub only."""
    tree = ast.parse((ROOT / "deploy" / "hub" / "progress.py").read_text(encoding="utf-8"))
    names = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert names - set(sys.stdlib_module_names) == {"tornado", "jupyterhub"}


def test_no_password_has_a_default() -> None:
    """The values contain no password, so no login works until the installation sets them."""
    text = VALUES.read_text(encoding="utf-8")
    assert "password:" not in text
    assert values()["hub"]["config"]["JupyterHub"]["authenticator_class"] == "shared-password"
    passwords = re.search(r"^hub: \{config: \{SharedPasswordAuthenticator: .*$", PAGE, re.MULTILINE)
    assert passwords
    assert {"user_password", "admin_password"} <= set(re.findall(r"\w+", passwords[0]))


def test_the_image_and_the_values_agree() -> None:
    """User, group, home, programs' modes and the hub's version are the same in the image, the values and the page."""
    user = values()["singleuser"]
    assert f"--uid {user['uid']} --gid users" in CONTAINERFILE
    assert "USER 1000" in CONTAINERFILE
    assert f"WORKDIR {user['storage']['homeMountPath']}" in CONTAINERFILE
    for name in ("LAB_MODE", "LAB_OBSERVABILITY"):
        assert f"{name}={user['extraEnv'][name]} " in CONTAINERFILE
    needed = (ROOT / "deploy" / "hub" / "requirements.in").read_text(encoding="utf-8")
    version = re.search(r"jupyterhub==([\d.]+)", needed)
    assert version
    assert f"JupyterHub {version[1]}" in PAGE
    assert user["image"]["tag"] == re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]  # type: ignore[index]


def test_the_build_copies_exactly_what_it_may() -> None:
    """Each file that the image's build copies is let through to it, and nothing else."""
    ignored = (ROOT / "deploy" / "hub" / "Containerfile.dockerignore").read_text(encoding="utf-8")
    allowed = {line[1:] for line in ignored.splitlines() if line.startswith("!")}
    copies = [line for line in CONTAINERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line]
    lines = [line.split()[1:-1] for line in copies]
    assert {name for line in lines for name in line} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_idle_servers_are_culled_after_a_lunch_break() -> None:
    """A server without activity stays for longer than a lunch break, and no server stays for a night."""
    cull = values()["cull"]
    assert 5400 <= cull["timeout"] < cull["maxAge"] <= 14 * 3600
