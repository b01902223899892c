"""The API server's own code accepts what the chart renders: definitions with their rules in CEL, and Pod Security.

`admission/` is a small Go program of Kubernetes' modules. It needs Go, Maven and some minutes to build.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.rendering import VARIANTS, documents, of_kind
from tools.make_kubernetes_schemas import definition_folders

HERE = Path(__file__).parent
Check = Callable[[list[dict[str, Any]]], list[str]]

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (shutil.which("go") and shutil.which("mvn")), reason="NOT TESTED: there is no Go or no Maven here"
    ),
]


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Return a function that returns the problems of documents, one line each."""
    folder = tmp_path_factory.mktemp("admission")
    program = folder / "admission"
    built = subprocess.run(
        ["nice", "go", "build", "-p", "2", "-trimpath", "-o", program, "."],
        cwd=HERE / "admission",
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"},
        capture_output=True,
        text=True,
    )
    if built.returncode:
        pytest.skip(f"NOT TESTED: Go could not build tests/deploy/admission: {built.stderr[-300:]}")
    folders = definition_folders(folder)

    def run(found: list[dict[str, Any]]) -> list[str]:
        done = subprocess.run([program, *folders.values()], input=json.dumps(found), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_api_server_accepts_every_document(check: Check) -> None:
    """No definition, no rule and no security profile refuses a document of any variant."""
    assert check([document for variant in VARIANTS for document in documents(variant)]) == []


def test_api_server_refuses_violations_of_its_rules(check: Check) -> None:
    """A rule in CEL, an unknown field, a missing definition and a privileged pod are refused, each by name."""
    cluster, scaled = of_kind("Cluster")["order-db"], of_kind("ScaledObject", "keda")["order"]
    cluster["spec"]["postgresql"]["synchronous"]["number"] = 0
    scaled["spec"]["minReplicaCount"] = 9
    topic = of_kind("KafkaTopic")["order.events"]
    topic["spec"]["partition"] = 4
    deployment = of_kind("Deployment")["order"]
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    unknown = {"apiVersion": "tea.example/v1", "kind": "Pot", "metadata": {"name": "pot"}}
    found = "\n".join(check([cluster, scaled, topic, deployment, unknown]))
    assert "should be greater than zero" in found
    assert "minReplicaCount must be less than or equal to maxReplicaCount" in found
    assert "KafkaTopic order.events: unknown field spec.partition" in found
    assert "Deployment order: Pod Security refuses it: privileged" in found
    assert "there is no definition of tea.example/v1 Pot" in found
