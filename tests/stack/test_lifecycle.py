"""A lab's lifecycle: startup, status, attaching, control of single components, shutdown."""

from __future__ import annotations

import contextlib
import html.parser
import json
import os
import re
import signal
import sys
import time
from operator import attrgetter
from pathlib import Path

import psutil
import pytest

from labstack import Lab
from labstack.errors import LabError, NotRunning, UnknownComponent
from labstack.waiting import wait_until
from tests.stack.labs import COMPONENTS, LabHarness, run_python, wait_for_exit
from tests.suite.chance import short_sample

STATES = {"ready", "starting", "degraded", "stopped"}
VERBS = ("start", "stop", "restart", "logs", "faults.kill", "faults.pause", "faults.resume")


class HtmlText(html.parser.HTMLParser):
    """Collects an HTML fragment's text and its open tags."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.words = ""
        self.open: list[str] = []
        self.feed(fragment)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def test_lab_starts_completes_orders_and_stops(harness: LabHarness) -> None:
    """A lab starts from nothing, reports it in a few lines, completes orders, and stops twice without leftovers."""
    nothing = harness.status()
    assert (nothing["state"], nothing["endpoints"]) == ("stopped", {})
    up = harness.run("up")
    assert up.returncode == 0, up.stderr
    assert "The lab is ready" in up.stdout
    assert len(up.stdout.splitlines()) <= 6
    assert harness.lab.endpoints.gateway in up.stdout
    assert harness.status()["state"] == "ready"
    output = harness.run_checked("demo")
    assert "COMPLETED" in output
    # Each of the eight stories has its final event.
    assert len(re.findall(r"\b(OrderCompleted|OrderCancelled)\b", output)) == 8
    before = harness.pids()
    harness.run_checked("up")
    assert harness.pids() == before
    harness.run_checked("down")
    harness.assert_nothing_runs()
    assert harness.status()["state"] == "stopped"
    harness.run_checked("down")
    assert "not running" in harness.run("demo").stderr


def test_status_keeps_its_contract(shared: LabHarness) -> None:
    """`lab status --json` prints one object with the names, states and addresses that other programs rely on."""
    done = shared.run("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    status = json.loads(done.stdout)
    assert set(status) == {"mode", "state", "endpoints", "components"}
    assert (status["mode"], status["state"]) == ("local", "ready")
    where = status["endpoints"]
    services = {"order", "inventory", "payment", "shipping"}
    assert set(where) == {*services, "gateway", "envoy-admin", "kafka", "connect", "databases"}
    assert set(where["databases"]) == {"order", "inventory", "payment", "shipping"}
    for url in (where[name] for name in (*services, "gateway", "envoy-admin", "connect")):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    for url in where["databases"].values():
        assert re.fullmatch(r"postgresql://\S+:\S+@127\.0\.0\.1:\d+/\w+", url)
    assert set(status["components"]) == set(COMPONENTS)
    for name, component in status["components"].items():
        assert {"state", "pid", "rss_bytes", "log"} == set(component) - {"control_plane"}
        assert ("control_plane" in component) == (name == "envoy")
        assert component["state"] == "running"
        assert psutil.pid_exists(component["pid"])
        assert 5e6 < component["rss_bytes"] < 1e9


def test_up_with_json_prints_json_only(shared: LabHarness) -> None:
    """`lab up --json` on a running lab prints only the status object, and starts nothing."""
    before = shared.pids()
    assert json.loads(shared.run_checked("up", "--json"))["state"] == "ready"
    assert shared.pids() == before


def test_demo_with_json_prints_one_order(shared: LabHarness) -> None:
    """`lab demo --json` completes one order, and prints it as the order service reports it."""
    order = json.loads(shared.run_checked("demo", "--json"))
    assert order["status"] == "COMPLETED"
    assert {"order_id", "customer_id", "items", "total_cents", "version"} <= set(order)


def programs_of(harness: LabHarness) -> set[int]:
    """Return the pids of a lab's processes, except those that PostgreSQL starts for each connection."""
    found = set(harness.pids().values())
    for process in harness.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() != "postgres":
                found.add(process.pid)
    return found


def test_attaching_starts_no_process(shared: LabHarness) -> None:
    """A second process sees the running lab and starts no process; `benchmarks start` measures the time."""
    before = programs_of(shared)
    code = "import json; from labstack import Lab; lab = Lab(); print(json.dumps([repr(lab), lab.endpoints.kafka]))"
    text, kafka = json.loads(run_python(code, shared.environment))
    assert text.startswith("Lab: ready")
    assert kafka == shared.lab.endpoints.kafka
    assert programs_of(shared) - before == set()


def test_repr_shows_every_component(shared: LabHarness) -> None:
    """The lab's repr, as text and as HTML, shows state, memory and address of every component."""
    text, fragment = repr(shared.lab), HtmlText(shared.lab._repr_html_())
    assert fragment.open == []
    for shown in (text, fragment.words):
        assert "ready" in shown
        for name in COMPONENTS:
            assert re.search(rf"{name}\s+running\s+\d+ MB\s+\S*127\.0\.0\.1:\d+", shown), name


def test_logs_print_the_last_lines(shared: LabHarness) -> None:
    """Each component has a log, and `lab logs` prints the requested number of its last lines."""
    for name in COMPONENTS:
        assert shared.lab.logs(name), name
    assert len(shared.run_checked("logs", "kafka", "-n", "3").splitlines()) == 3


@pytest.mark.parametrize("name", short_sample(COMPONENTS, 1))
def test_component_can_be_controlled_alone(shared: LabHarness, name: str) -> None:
    """A component can be paused, resumed, killed, started and restarted, and all others keep running."""
    lab, others = shared.lab, {n: pid for n, pid in shared.pids().items() if n != name}
    lab.faults.pause(name)
    assert shared.state_of(name) == "paused"
    assert lab.status(memory=False).state == "degraded"
    lab.faults.resume(name)
    assert shared.state_of(name) == "running"
    lab.faults.kill(name)
    assert shared.state_of(name) == "failed"
    assert name in lab.status(memory=False).complaints
    lab.start(name)
    first = shared.pids()[name]
    lab.restart(name)
    assert shared.pids() == {**others, name: shared.pids()[name]}
    assert shared.pids()[name] != first
    assert wait_until(lambda: not lab.status(memory=False).complaints, 60, interval=0.1)


def test_stopped_component_is_not_failed(shared: LabHarness) -> None:
    """A stopped component is not failed, can't be paused or killed, and starts again, alone or with `lab up`."""
    assert "has stopped" in shared.run_checked("stop", "shipping")
    assert shared.status()["components"]["shipping"]["state"] == "stopped"
    assert shared.status()["state"] == "degraded"
    shared.run_checked("stop", "shipping")
    with pytest.raises(NotRunning, match="lab start shipping"):
        shared.lab.faults.kill("shipping")
    before = shared.pids()
    shared.run_checked("up")
    assert before.items() <= shared.pids().items()
    assert shared.status()["state"] == "ready"


@pytest.mark.skipif(
    sys.platform != "linux" or os.environ.get("LAB_MODE") == "containers", reason="local mode on Linux sets it"
)
def test_connect_has_a_timer_slack_of_two_milliseconds(shared: LabHarness) -> None:
    """Connect has a timer slack of 2 ms, without which Debezium's queue spins; the others have the default."""
    slack = {name: int(Path(f"/proc/{shared.pids()[name]}/timerslack_ns").read_text()) for name in ("connect", "kafka")}
    assert slack["connect"] == 2_000_000
    assert slack["kafka"] < 1_000_000


@pytest.mark.parametrize("verb", VERBS)
def test_unknown_component_lists_the_known_ones(shared: LabHarness, verb: str) -> None:
    """An unknown component is an error that lists the known ones, and changes nothing."""
    with pytest.raises(UnknownComponent) as raised:
        attrgetter(verb)(shared.lab)("ordr")
    assert "'ordr'" in str(raised.value)
    assert all(name in str(raised.value) for name in COMPONENTS)
    assert shared.lab.status(memory=False).state == "ready"


def test_component_of_a_stopped_lab_names_the_next_step(harness: LabHarness) -> None:
    """A verb for one component of a stopped lab is an error with the next step."""
    for verb in ("start", "stop", "faults.kill", "faults.pause", "faults.resume"):
        with pytest.raises(NotRunning, match="lab up"):
            attrgetter(verb)(harness.lab)("order")
    done = harness.run("logs", "nonsense")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)


def test_demo_of_a_stopped_lab_names_the_next_step(harness: LabHarness) -> None:
    """`lab demo` on a lab that never ran names the next step, without a traceback."""
    done = harness.run("demo")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "lab up" in done.stderr


def test_concurrent_up_waits_and_attaches(harness: LabHarness) -> None:
    """Of two concurrent `lab up`, one starts the lab, the other reports that it waits, and both have the same lab."""
    first = harness.start("up")
    assert wait_until(lambda: bool(harness.state().get("components")), 60, interval=0.005)
    os.kill(first.pid, signal.SIGSTOP)  # otherwise it may be ready before anyone looks
    assert harness.status()["state"] == "starting"
    second = harness.start("up")
    assert second.stderr is not None
    assert any(f"pid {first.pid}" in line for line in second.stderr)  # until it appears, or the process exits
    os.kill(first.pid, signal.SIGCONT)
    assert (wait_for_exit(first)[0], wait_for_exit(second)[0]) == (0, 0)
    assert harness.status()["state"] == "ready"
    assert len(harness.pids()) == len(COMPONENTS)


@pytest.mark.long
def test_two_labs_are_isolated(shared: LabHarness, make_harness: object) -> None:
    """A lab of another name under the same HOME has separate ports, data and processes, and stops alone."""
    other = make_harness("other", home=shared.home)  # type: ignore[operator]
    before = shared.pids()
    assert other.status()["state"] == "stopped"
    # A stopped component keeps its port; otherwise the rest of its lab would connect to the other lab.
    shared.lab.stop("shipping")
    other.run_checked("up")
    shared.lab.start("shipping")
    before = shared.pids()
    assert set(other.pids().values()) & set(before.values()) == set()
    assert set(other.state()["ports"].values()) & set(shared.state()["ports"].values()) == set()
    json.loads(other.run_checked("demo", "--json"))
    other.run_checked("down", "--purge")
    other.assert_nothing_runs()
    assert shared.pids() == before
    assert shared.status()["state"] == "ready"


def test_another_home_is_another_lab(shared: LabHarness, tmp_path: object) -> None:
    """With another HOME, `lab status` and `lab down` neither see nor change the running lab."""
    environment = {k: v for k, v in shared.environment.items() if k not in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
    environment["HOME"] = str(tmp_path)
    code = """from labstack.lab import Lab, access_of
lab = Lab()
print(lab.status().state)
lab.down()
print(access_of(lab).paths.state)"""
    state, folder = run_python(code, environment).split()
    assert state == "stopped"
    assert folder.startswith(str(tmp_path))
    assert shared.status()["state"] == "ready"


def test_invalid_lab_name_is_rejected() -> None:
    """A lab's name that would lead out of its folder is rejected with the rule for names."""
    with pytest.raises(LabError, match="letters, digits"):
        Lab("../other")


def test_lab_survives_the_kernel_that_started_it(shared: LabHarness) -> None:
    """A lab keeps running after the kernel that started it is killed with its whole process group."""
    shared.run_checked("down")
    import os
    import signal
    import subprocess
    import sys

    code = "from labstack import Lab; import time; Lab().up(); print('up', flush=True); input()"
    kernel = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=shared.environment,
        start_new_session=True,
    )
    assert kernel.stdout
    assert kernel.stdout.readline() == "up\n"
    pids = shared.pids()
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.communicate(timeout=10)
    assert shared.pids() == pids
    began = time.monotonic()
    assert shared.status()["state"] == "ready"
    assert time.monotonic() - began < 30
    assert json.loads(shared.run_checked("demo", "--json"))["status"] == "COMPLETED"
