"""Notebook 14 on a real cluster: its cells, and its exercises untouched, solved and typically wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from labkit.cluster import SKIPPED
from labkit.exercises import course
from tests.cluster import attached
from tests.cluster.cluster import Cluster
from tests.cluster.installation import await_ready, namespaced
from tools.scratch_folder import scratch_folder

pytestmark = [pytest.mark.long, pytest.mark.timeout(5400), pytest.mark.xdist_group("cluster")]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "14-on-a-cluster.ipynb"
TIMEOUT = 3000.0
"""Seconds for all cells, and for all attempts at one exercise."""

RUN_CELLS = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
resources = {"metadata": {"path": sys.argv[2]}}
NotebookClient(notebook, timeout=900, kernel_name="python3", allow_errors=True, resources=resources).execute()
nbformat.write(notebook, sys.argv[3])
"""

TRY_EXERCISE = """
import json, sys, tempfile
from pathlib import Path
from labkit import begin
from labkit.exercises import course
from tests.labkit.test_exercises import Attempt

session = begin("14")
(exercise,) = [one for one in course()["14"] if one.name == sys.argv[1]]
seen = []
for code, all_facts in [("", False), *((one.code, True) for one in exercise.mistakes), (exercise.answer, False)]:
    attempt = Attempt(exercise, session, Path(tempfile.mkdtemp(dir=sys.argv[2])))
    seen.append([attempt.submit(code, all_facts=all_facts), attempt.message])
    attempt.tasks.cleanup(exercise.name)
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def cluster(lab_cluster: Cluster) -> Iterator[Cluster]:
    """Yield the cluster with a lab attached to it, whose pods are ready."""
    await_ready(lab_cluster)
    attached.lab(lab_cluster, "up")
    yield lab_cluster
    attached.lab(lab_cluster, "down")


def run(cluster: Cluster, program: str, *arguments: object) -> str:
    """Run a program of the lab in the cluster's network, and return its standard output."""
    done = subprocess.run(
        cluster.in_network([sys.executable, "-c", program, *map(str, arguments)]),
        env=attached.environment(cluster),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def executed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the notebook, and return its code cells by id."""
    target = tmp_path_factory.mktemp("notebook") / NOTEBOOK.name
    with scratch_folder(NOTEBOOK.parent) as folder:
        run(cluster, RUN_CELLS, NOTEBOOK, folder, target)
    cells = nbformat.read(target, as_version=4).cells
    return {cell.id: cell for cell in cells if cell.cell_type == "code"}


def shown(cell: Any) -> str:
    """Return the text that a cell shows."""
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join("".join(text) for text in texts)


def test_no_cell_is_skipped_or_fails(executed: dict[str, Any]) -> None:
    """Every cell runs, and none has an error or prints that it is skipped."""
    errors = {
        name: "\n".join(output.traceback)
        for name, cell in executed.items()
        for output in cell.outputs
        if output.output_type == "error"
    }
    assert errors == {}
    assert [name for name, cell in executed.items() if SKIPPED in shown(cell)] == []
    assert all(cell.execution_count for cell in executed.values())


def test_each_failure_happened_and_nothing_is_lost(executed: dict[str, Any]) -> None:
    """The self-checks hold: the primary moved twice, the slot survived, and no invariant is violated."""
    text = shown(executed["self-check"])
    assert "the primary moved: True True · failover slot: True · read: True" in text
    assert "violated or open after the failover: [] · after the drain: []" in text
    assert "every node accepts pods: True · during the rollout: COMPLETED" in text
    assert "accepted orders without an end: 0" in shown(executed["ends"])
    assert "another pod runs: True" in shown(executed["kill"])
    assert "'ready'" in shown(executed["reset"])


def test_kubectl_shows_what_the_text_explains(executed: dict[str, Any]) -> None:
    """The drain waits for a budget, the wrong rollout waits for its pod, and the gateway answers 503 for the share."""
    assert "disruption budget" in shown(executed["drain"])
    assert "drained" in shown(executed["drain"])
    assert "timed out waiting for the condition" in shown(executed["set-env"])
    assert "rolled back" in shown(executed["history"])
    assert "503" in shown(executed["weights-traffic"])
    assert "'mesh': True" in shown(executed["preflight"])
    assert "each database has a standby with a complete copy" in shown(executed["orphans-dropped"])


def test_the_cluster_is_as_before(cluster: Cluster, executed: dict[str, Any]) -> None:
    """After the notebook, every node accepts pods, and each part is ready."""
    assert executed
    nodes = cluster.get("nodes")["items"]
    assert [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")] == []
    await_ready(cluster)
    replicas = namespaced(cluster, "get", "deployment", "connect-watcher", "--output", "jsonpath={.spec.replicas}")
    assert replicas == "1"


@pytest.mark.parametrize("exercise", course()["14"], ids=lambda exercise: exercise.name)
def test_an_exercise_is_checked_on_the_cluster(cluster: Cluster, exercise: Any, tmp_path: Path) -> None:
    """An exercise is untouched at first, each typical mistake is wrong with its message, and the solution is right."""
    untouched, *wrong, right = json.loads(run(cluster, TRY_EXERCISE, exercise.name, tmp_path).splitlines()[-1])
    assert untouched[0] == "untouched", untouched
    for mistake, (outcome, message) in zip(exercise.mistakes, wrong, strict=True):
        assert outcome == "wrong", message
        assert mistake.message in message
    assert right[0] == "right", right
