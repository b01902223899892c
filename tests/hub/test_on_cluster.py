"""A class on a real cluster: KubeSpawner starts learners' pods, and their labs, links and reports work in there.

The cluster of `tests.cluster` runs on this machine. The hub and its proxy are processes in its network; the pods are
real, and run the image that `tests.hub.learner_image` builds from `deploy/hub/Containerfile`.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.exercises import course
from labstack.waiting import wait_until
from tests.cluster.cluster import Cluster
from tests.cluster.temporary import temporary_cluster
from tests.hub import environment, learner_image
from tests.hub.room import NAMESPACE, Use, in_pod, room, start_servers, stop_server, use_of
from tests.hub.running import ADMIN_PASSWORD, PASSWORD, Hub

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
FIRST = ROOT / "notebooks" / "00-start-here.ipynb"
EXERCISE = course()["00"][0].name
LEARNERS = 40
RECORD = """
from labstack import Lab
from labstack.lab import access_of
from labkit.exercises.progress import ProgressFile
ProgressFile(access_of(Lab()).paths.state).record_outcome({name!r}, "right", "an answer from a pod", "Yes.")
"""
SMALL = {"cpu_guarantee": 0.02, "mem_guarantee": "256M", "http_timeout": 900, "start_timeout": 900}
"""Settings with which forty pods fit on one machine, and may start slowly. `values.yaml` has the ones for a class."""
AT_ONCE = 5
"""Number of servers that start at once: about two for each core."""


@pytest.fixture(scope="module")
def hub_cluster() -> Iterator[Cluster]:
    """Yield a cluster of two nodes that have the learner's image."""
    try:
        environment.proxy()
        environment.python()
    except environment.Unavailable as reason:
        pytest.skip(f"NOT RUN: {reason}")
    with temporary_cluster(lambda _: [learner_image.archive()]) as running:
        yield running


@pytest.fixture(scope="module")
def classroom(hub_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Yield a hub on the cluster, in the network of the cluster."""
    with room(hub_cluster, tmp_path_factory.mktemp("hub"), volumes=LEARNERS + 5, at_once=AT_ONCE, **SMALL) as running:
        yield running


@pytest.fixture(scope="module")
def ada(classroom: Hub) -> str:
    """Return the name of a learner whose server runs."""
    classroom.add_user("ada")
    print(f"\nfirst pod ready after {start_servers(classroom, ['ada'], 300):.1f} s")
    return "ada"


@pytest.fixture
def lab_of_ada(hub_cluster: Cluster, ada: str) -> str:
    """Return the name of a learner whose lab runs."""
    in_pod(hub_cluster, ada, "lab", "up")
    return ada


def show(what: str, use: Use) -> None:
    print(f"{what}: {use.memory / 1e6:.0f} MB in {use.processes} processes, {use.cpu:.1f} s of processor time")


def test_a_learner_gets_a_confined_pod_with_the_course(hub_cluster: Cluster, classroom: Hub, ada: str) -> None:
    """The pod passes Pod Security `restricted`, runs without root, and has the course in the home."""
    assert in_pod(hub_cluster, ada, "id", "-u").strip() == "1000"
    assert "00-start-here.ipynb" in in_pod(hub_cluster, ada, "ls", "my-course/notebooks")
    assert "no" in in_pod(hub_cluster, ada, "sh", "-c", "test -e /var/run/secrets/kubernetes.io && echo yes || echo no")
    assert in_pod(hub_cluster, ada, "bash", "-lc", "command -v lab").strip() == "/opt/saga-lab/env/bin/lab"
    pod = hub_cluster.get("pod", "--namespace", NAMESPACE, f"jupyter-{ada}")
    assert pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] is False
    with classroom.login(ada, PASSWORD) as browser:
        page = browser.get(f"{classroom.url}/user/{ada}/lab").raise_for_status()
        assert "JupyterLab" in page.text
        assert browser.get(f"{classroom.url}/user/nobody/lab").status_code in (403, 404)
    show("JupyterLab", use_of(hub_cluster, ada))


def test_the_first_notebook_runs_in_the_pod(hub_cluster: Cluster, ada: str) -> None:
    """In the pod, `lab up` downloads nothing, and the first notebook gives the saved outputs."""
    began = time.monotonic()
    started = in_pod(hub_cluster, ada, "lab", "up")
    print(f"\nlab up: {time.monotonic() - began:.1f} s")
    assert "download" not in started.lower()
    show("JupyterLab and a lab", use_of(hub_cluster, ada))
    for file, target in ((FIRST, "/tmp/00-start-here.ipynb"), (ROOT / "tests" / "nbval_sanitize.cfg", "/tmp/sanitize")):
        in_pod(hub_cluster, ada, "tee", target, text=file.read_text(encoding="utf-8"))
    options = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with=/tmp/sanitize", "--nbval-cell-timeout=300"]
    began = time.monotonic()
    command = f"cd /tmp && python -m pytest -q -p no:cacheprovider {' '.join(options)} 00-start-here.ipynb 2>&1 || true"
    done = in_pod(hub_cluster, ada, "sh", "-c", command)
    print(f"first notebook: {time.monotonic() - began:.1f} s")
    assert re.search(r"^\d+ passed", done, re.M), done[-4000:]
    assert "failed" not in done
    before = use_of(hub_cluster, ada)
    show("JupyterLab and a lab after the notebook", before)
    time.sleep(30)
    print(f"idle: {(use_of(hub_cluster, ada).cpu - before.cpu) / 30:.2f} cores")


def test_the_tools_pages_are_served_through_the_hub(classroom: Hub, lab_of_ada: str) -> None:
    """Prometheus, Envoy, the APIs and the map open below the learner's path, and only for this learner."""
    base = f"{classroom.url}/user/{lab_of_ada}"
    classroom.add_user("mallory")
    with classroom.login(lab_of_ada, PASSWORD) as browser:
        for name, text in (("envoy", "envoy"), ("api-docs", "order"), ("map", "map"), ("prometheus", "Prometheus")):
            page = browser.get(f"{base}/saga-{name}/", timeout=60)
            assert page.status_code == 200, name
            assert text in page.text, name
    with classroom.login("mallory", PASSWORD) as browser:
        assert browser.get(f"{base}/saga-envoy/").status_code == 403


def test_the_instructor_sees_what_happens_in_the_pods(hub_cluster: Cluster, classroom: Hub, ada: str) -> None:
    """A learner's solved exercise appears on the instructor's page; the instructor can open the learner's server."""
    in_pod(hub_cluster, ada, "python", "-c", RECORD.format(name=EXERCISE))
    with classroom.login("instructor", ADMIN_PASSWORD) as browser:
        assert ">ada</a></td><td>1/" in browser.get(f"{classroom.url}/services/progress/").raise_for_status().text
        details = browser.get(f"{classroom.url}/services/progress/learners/ada").raise_for_status().text
        assert "an answer from a pod" in details
        assert browser.get(f"{classroom.url}/user/ada/lab").status_code == 200


def test_the_work_and_the_lab_outlive_the_pod(hub_cluster: Cluster, classroom: Hub, lab_of_ada: str) -> None:
    """After a stop and a start, the learner's file and progress are there, and the lab starts and completes orders."""
    ada = lab_of_ada
    in_pod(hub_cluster, ada, "python", "-c", RECORD.format(name=EXERCISE))
    in_pod(hub_cluster, ada, "sh", "-c", "echo mine >my-course/notebooks/mine.txt")
    print(f"\npod gone after {stop_server(classroom, ada):.1f} s")
    start_servers(classroom, [ada], 300)
    assert in_pod(hub_cluster, ada, "cat", "my-course/notebooks/mine.txt") == "mine\n"
    assert '"state": "stopped"' in in_pod(hub_cluster, ada, "lab", "status", "--json")
    began = time.monotonic()
    in_pod(hub_cluster, ada, "lab", "up")
    print(f"second lab up: {time.monotonic() - began:.1f} s")
    assert "COMPLETED" in in_pod(hub_cluster, ada, "lab", "demo")
    progress = in_pod(hub_cluster, ada, "sh", "-c", "cat .local/state/saga-lab/default/course-progress.json")
    assert EXERCISE in progress


def test_forty_learners_get_their_servers(hub_cluster: Cluster, classroom: Hub, ada: str) -> None:
    """Forty servers run at the same time, and the lab and the first order work in the last one, too."""
    names = [f"learner{number:02}" for number in range(1, LEARNERS)]
    for name in names:
        classroom.add_user(name)
    seconds = start_servers(classroom, names, 1800)
    print(f"\n{len(names)} more servers ready after {seconds:.0f} s")
    uses = [use_of(hub_cluster, name) for name in names]
    memory = sorted(use.memory for use in uses)
    print(f"each: {memory[len(memory) // 2] / 1e6:.0f} MB (largest {memory[-1] / 1e6:.0f} MB), "
          f"{sum(use.cpu for use in uses) / len(uses):.1f} s of processor time")  # fmt: skip
    nodes = {one["spec"]["nodeName"] for one in hub_cluster.get("pods", "--namespace", NAMESPACE)["items"]}
    assert nodes == set(hub_cluster.nodes)
    in_pod(hub_cluster, names[-1], "lab", "up")
    assert "COMPLETED" in in_pod(hub_cluster, names[-1], "lab", "demo")
    show("a second lab in the full room", use_of(hub_cluster, names[-1]))


def test_idle_servers_are_culled(hub_cluster: Cluster, classroom: Hub, ada: str) -> None:
    """The culler stops the servers that had no activity."""
    command: list[str | Path] = [environment.python(), "-m", "jupyterhub_idle_culler", "--timeout=5", "--cull-every=5"]
    culler = subprocess.Popen(
        hub_cluster.in_network([*command, f"--url={classroom.url}/hub/api"]),
        env={**hub_cluster.environment, "JUPYTERHUB_API_TOKEN": classroom.token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: not hub_cluster.get("pods", "--namespace", NAMESPACE)["items"], 600, interval=2)
    finally:
        culler.terminate()
        culler.wait()
