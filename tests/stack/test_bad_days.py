"""Crashed startups, Ctrl-C, taken ports, dead components, full disks: a clear error or a working lab, no leftovers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from labstack.config.paths import CONFIG, DATASETS
from labstack.config.services import load_services
from labstack.errors import LabError, PortTaken
from labstack.waiting import poll_until, wait_until
from tests.stack.labs import COMPONENTS, ROOT, LabHarness, wait_for_exit
from tests.suite.chance import short_sample
from tests.suite.no_network import WITHOUT_NETWORK, needs_network_isolation

MakeHarness = Callable[..., LabHarness]


def start_partially(harness: LabHarness) -> subprocess.Popen[str]:
    """Start `lab up`, and return when it has started at least two components."""
    up = harness.start("up")
    assert wait_until(lambda: len(harness.state().get("components", {})) >= 2, 60, interval=0.005)
    assert up.poll() is None
    return up


def assert_readable_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a command failed with a readable error that has a next step and these words."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Next step: " in done.stderr
    for word in words:
        assert word in done.stderr


# --- crashes during startup


@pytest.mark.parametrize(
    "how", short_sample([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], 1), ids=lambda how: how.name
)
def test_interrupted_startup_stops_every_process(harness: LabHarness, how: signal.Signals) -> None:
    """Ctrl-C, `kill` or a closed terminal during startup stops everything that was started."""
    up = start_partially(harness)
    up.send_signal(how)
    status, _, err = wait_for_exit(up)
    assert status == 130
    assert "Traceback" not in err
    harness.assert_nothing_runs()
    assert harness.status()["state"] == "stopped"


def test_repeated_interrupts_still_stop_every_process(harness: LabHarness) -> None:
    """Repeated Ctrl-C during startup still stops everything that was started."""
    up = start_partially(harness)
    for _ in range(3):
        up.send_signal(signal.SIGINT)
        poll_until(lambda: up.poll() is not None, 0.2)
    assert wait_for_exit(up)[0] != 0
    harness.assert_nothing_runs()


def forget_newest_component(harness: LabHarness) -> None:
    """Remove the newest component from the state, as if `lab up` had died between its start and its record."""
    state = harness.state()
    state["components"].popitem()
    harness.paths.state_file.write_text(json.dumps(state))


@pytest.mark.parametrize("unrecorded", [False, True], ids=["recorded", "not recorded"])
@pytest.mark.long
def test_up_completes_a_startup_that_was_killed(harness: LabHarness, unrecorded: bool) -> None:
    """After `lab up` is killed, `lab status` and `lab doctor` report it, and another `lab up` completes the startup."""
    up = start_partially(harness)
    os.killpg(up.pid, signal.SIGKILL)
    wait_for_exit(up)
    if unrecorded:
        forget_newest_component(harness)
    before = harness.pids()
    assert harness.status()["state"] in ("degraded", "stopped")
    leftovers = harness.finding("leftovers")
    assert leftovers.verdict == "warning"
    assert "lab up" in leftovers.advice
    assert "lab down" in leftovers.advice
    harness.run_checked("up")
    assert harness.status()["state"] == "ready"
    assert before.items() <= harness.pids().items()
    assert harness.finding("leftovers").verdict == "ok"


def test_down_stops_what_a_killed_startup_started(harness: LabHarness) -> None:
    """`lab down` stops everything that a killed `lab up` has started, recorded or not."""
    up = start_partially(harness)
    os.killpg(up.pid, signal.SIGKILL)
    wait_for_exit(up)
    assert harness.processes()
    forget_newest_component(harness)
    harness.run_checked("down")
    harness.assert_nothing_runs()


# --- the state file


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"phase": "ready"}', "\x00\xff", '{"keeper": null, "components": []}']
)
def test_damaged_state_file_is_reported_and_repaired_by_down(harness: LabHarness, damage: str) -> None:
    """A damaged state file is named in the error, `lab status` still works, and `lab down` repairs it."""
    harness.paths.make()
    harness.paths.state_file.write_bytes(damage.encode("latin-1"))
    assert harness.lab.status().state == "stopped"
    for shown in (repr(harness.lab), harness.lab._repr_html_()):
        assert str(harness.paths.state_file) in shown
    with pytest.raises(LabError, match=r"(?s)state\.json is damaged.*lab down"):
        harness.lab.up()
    harness.lab.down()
    assert harness.state()["phase"] == "stopped"


@pytest.mark.long
def test_down_stops_the_lab_despite_a_damaged_state_file(shared: LabHarness) -> None:
    """If a running lab's state file is damaged, `lab down` still stops every process, and keeps the data."""
    order = json.loads(shared.run_checked("demo", "--json"))["order_id"]
    shared.record_ports_and_id()
    shared.paths.state_file.write_text("nonsense")
    assert shared.status()["state"] == "degraded"
    shared.run_checked("down")
    shared.assert_nothing_runs()
    shared.run_checked("up")
    from tests.stack.orders import all_orders

    assert order in all_orders(shared.lab)


def test_stale_pids_are_not_taken_for_the_labs_processes(harness: LabHarness) -> None:
    """Pids of exited or foreign processes are not taken for the lab's; status and shutdown do not touch them."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        exited = subprocess.Popen([sys.executable, "-c", ""])
        exited.wait()
        harness.run_checked("down")
        harness.paths.make()
        record = {"process": {"pid": bystander.pid, "born": 1000.0}, "stopped_on_purpose": False}
        dead = {"process": {"pid": exited.pid, "born": 2000.0}, "stopped_on_purpose": False}
        state = {
            "lab_id": "0123456789ab",
            "mode": "local",
            "phase": "ready",
            "keeper": dead["process"],
            "ports": {},
            "components": {name: record if number % 2 else dead for number, name in enumerate(COMPONENTS)},
        }
        harness.paths.state_file.write_text(json.dumps(state))
        assert harness.status()["state"] == "stopped"
        harness.run_checked("down")
        assert bystander.poll() is None
        assert bystander.stdin
        bystander.stdin.close()


# --- ports


def test_taken_port_is_replaced_and_reported(make_harness: MakeHarness) -> None:
    """If a usual port is taken, the lab uses another one, and reports it with the process that holds the first."""
    usual = load_services()[0].port
    harness = make_harness()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", usual))
            holder.listen()
        except OSError:
            pass  # another lab on this machine holds it, which has the same effect
        up = harness.run("up")
        assert up.returncode == 0
        assert f"port {usual}" in up.stderr or "more" in up.stderr  # other labs' ports may be named before it
        assert "pid" in up.stderr or "another lab" in up.stderr
        assert harness.state()["ports"]["order"] != usual
        assert harness.status()["state"] == "ready"


def test_start_names_the_process_that_took_the_port(shared: LabHarness) -> None:
    """If a stopped component's port is taken, a start names the process; when the port is free, it succeeds."""
    shared.lab.stop("shipping")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", shared.state()["ports"]["shipping"]))
        holder.listen()
        with pytest.raises(PortTaken, match=rf"pid {os.getpid()}"):
            shared.lab.start("shipping")
    shared.lab.start("shipping")
    assert shared.state_of("shipping") == "running"


# --- components that don't start


def copy_stack(tmp_path: Path) -> Path:
    """Copy the stack's folder for a test that breaks it, and return the copy."""
    shutil.copytree(CONFIG, tmp_path / "lab-stack", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "datasets").symlink_to(DATASETS)
    return tmp_path / "lab-stack"


def break_kafka(stack: Path) -> None:
    file = stack / "kafka" / "server.properties"
    file.write_text(file.read_text().replace("process.roles=broker,controller", "process.roles=broker,dictator"))


def break_connect(stack: Path) -> None:
    with (stack / "connect" / "connect-distributed.properties").open("a") as file:
        file.write("listeners=nonsense\n")


def break_database(stack: Path) -> None:
    with (stack / "postgres" / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'a lot'\n")


def break_connector(stack: Path) -> None:
    file = stack / "connect" / "outbox-connector.json"
    file.write_text(file.read_text().replace('"pgoutput"', '"nosuchplugin"'))


BREAKS = {
    "kafka": (break_kafka, "dictator"),
    "connect": (break_connect, "right format"),
    "order-db": (break_database, "shared_buffers"),
    "order-outbox": (break_connector, "plugin.name"),
}


@pytest.mark.parametrize("component", short_sample(BREAKS, 1))
def test_failed_startup_names_the_component_and_keeps_the_others(
    harness: LabHarness, tmp_path: Path, component: str
) -> None:
    """A failed startup names the component, the end of its log and the next step; the next one continues from there."""
    stack = copy_stack(tmp_path)
    break_component, word = BREAKS[component]
    break_component(stack)
    done = harness.run("up", PYTHONPATH=str(stack))
    assert_readable_error(done, word)
    assert component.removeprefix("order") in done.stderr
    status, before = harness.status(), harness.pids()
    assert status["state"] == "degraded"
    assert "lab up" in status["complaint"]
    assert before
    assert component not in before
    # Without the cause, the same lab starts.
    if component == "order-db":
        harness.run_checked("up")
        assert before.items() <= harness.pids().items()
        assert harness.status()["state"] == "ready"


@pytest.mark.long
def test_bad_data_row_fails_the_startup_with_file_and_line(harness: LabHarness, tmp_path: Path) -> None:
    """A bad row in the data is a startup error that names file and line."""
    stack = copy_stack(tmp_path)
    (tmp_path / "datasets").unlink()
    shutil.copytree(DATASETS, tmp_path / "datasets")
    with (tmp_path / "datasets" / "products.csv").open("a") as file:
        file.write("bad sku,Bad,minus one,EUR,1\n")
    assert_readable_error(harness.run("up", PYTHONPATH=str(stack)), "products.csv", "sku")


def test_syntax_error_in_a_service_is_reported_with_file_and_line(shared: LabHarness, tmp_path: Path) -> None:
    """Any verb that starts the service reports its syntax error with file and line; without it, the service starts."""
    shutil.copytree(ROOT / "labservices", tmp_path / "labservices", ignore=shutil.ignore_patterns("__pycache__"))
    handlers = tmp_path / "labservices" / "payment" / "handlers.py"
    whole = handlers.read_text()
    handlers.write_text("def charge(:\n" + whole)
    shared.lab.stop("payment")
    before = shared.pids()
    for verb in (("start", "payment"), ("up",), ("reset",)):
        done = shared.run(*verb, PYTHONPATH=str(tmp_path))
        assert_readable_error(done, "SyntaxError", "fix labservices/payment/handlers.py, line 1", "lab start payment")
    assert before.items() <= shared.pids().items()
    handlers.write_text(whole)
    shared.run_checked("start", "payment", PYTHONPATH=str(tmp_path))
    assert "reset" in shared.status()["complaint"]
    shared.run_checked("up")  # completes the reset
    assert shared.status()["state"] == "ready"


@pytest.mark.long
def test_failed_up_does_not_change_running_components(shared: LabHarness, tmp_path: Path) -> None:
    """A `lab up` that can't start one component of a running lab does not change the others."""
    stack = copy_stack(tmp_path)
    break_connect(stack)
    shared.lab.stop("connect")
    before = shared.pids()
    assert_readable_error(shared.run("up", PYTHONPATH=str(stack)), "right format")
    assert shared.pids() == before
    shared.run_checked("up")
    assert shared.status()["state"] == "ready"


# --- disks


needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts a small disk, which takes root and unshare(1)"
)


def run_in_private_mounts(harness: LabHarness, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a private mount namespace; `$LAB` is the lab's command."""
    command = ["unshare", "--mount", "sh", "-ec", script]
    lab = {"LAB": f"{sys.executable} -m labstack.cli", "PYTHON": sys.executable, "STATE": str(harness.home)}
    environment = {**harness.environment, **lab, **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    if "permission denied" in done.stderr and "mount:" in done.stderr:
        pytest.skip("this machine lets no user mount a file system, not even in a namespace of its own")
    return done


@needs_namespace
@pytest.mark.parametrize("megabytes", [4, pytest.param(60, marks=pytest.mark.long)])
def test_too_small_disk_is_a_clear_error(harness: LabHarness, megabytes: int) -> None:
    """A disk that is too small for any of the components is a clear error, and `lab down` stops what runs."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$STATE"'
    done = run_in_private_mounts(harness, f'{mount}; $LAB up || echo "status $?"; $LAB down; $LAB status --json')
    assert "Traceback" not in done.stderr
    assert "status 1" in done.stdout, done.stdout + done.stderr
    assert "Next step: " in done.stderr
    assert '"state": "stopped"' in done.stdout
    harness.assert_nothing_runs()


@needs_namespace
@pytest.mark.long
def test_lab_can_be_stopped_on_a_full_disk(harness: LabHarness) -> None:
    """On a disk that fills up while the lab runs, `lab status` still reports, and `lab down` stops everything."""
    script = """
        mount -t tmpfs -o size=1000m none "$STATE"
        $LAB up
        dd if=/dev/zero of="$STATE/filler" bs=1M 2>/dev/null || true
        $LAB status --json
        $LAB down
        $LAB status --json
    """
    done = run_in_private_mounts(harness, script)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert '"state": "stopped"' in done.stdout.splitlines()[-1]
    harness.assert_nothing_runs()


LEARNER = """
import os
import psutil
from labkit import begin
from labstack.errors import LabError

def assert_fails(what, *words):
    fill()  # again: PostgreSQL and Kafka give back some of what they had
    try:
        what()
    except LabError as error:
        assert "Next step: " in str(error), error
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError(f"{what} failed in nothing")

def fill():
    with open(filler, "ab", buffering=0) as file:
        try:
            while file.write(bytes(1 << 20)):
                pass
        except OSError:
            pass

def order_until_one_stalls():
    for _ in range(40):
        fill()
        shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1}), timeout=20)

lab, shop, look, tasks = begin("01")
filler = os.environ["STATE"] + "/filler"
assert_fails(order_until_one_stalls)
psutil.Process(lab.status().components["shipping"].pid).kill()  # so that there is something to start
assert_fails(lambda: begin("02"), "No space left", "free some space")
assert_fails(lab.reset, "No space left", "free some space")
os.remove(filler)
lab.reset()
print(shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1})))
assert [verdict for verdict in lab.check(wait_for_rest=60) if not verdict.holds] == []
"""


@pytest.mark.long
@needs_namespace
def test_reset_restores_a_notebook_session_after_a_full_disk(harness: LabHarness) -> None:
    """On a full disk, a learner gets an error with the next step; with free space, a reset restores everything."""
    mount = 'mount -t tmpfs -o size=1000m none "$STATE"'
    done = run_in_private_mounts(harness, f'{mount}; $LAB up; $PYTHON -c "$LEARNER"; $LAB down', LEARNER=LEARNER)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    assert "COMPLETED" in done.stdout
    harness.assert_nothing_runs()


@needs_namespace
def test_read_only_folder_is_named_in_the_error(harness: LabHarness) -> None:
    """If no file can be written, the startup error names the folder and the environment variable for another."""
    script = 'mount -t tmpfs -o ro none "$STATE"; $LAB status --json; $LAB up'
    done = run_in_private_mounts(harness, script)
    assert_readable_error(done, str(harness.home), "XDG_STATE_HOME", "Read-only")


# --- no network


@needs_network_isolation
def test_order_completes_without_a_network(harness: LabHarness) -> None:
    """On a machine with only a loopback interface, such as a laptop on a train, an order completes."""
    command = [*WITHOUT_NETWORK, "sh", "-c", "$LAB up && $LAB demo --json && $LAB down"]
    environment = {**harness.environment, "LAB": f"{sys.executable} -m labstack.cli"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "COMPLETED"' in done.stdout
    harness.assert_nothing_runs()


# --- other users


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))),
    reason="runs the lab as another user, which takes root",
)
def test_unprivileged_user_can_run_a_lab(make_harness: MakeHarness, tmp_path: Path) -> None:
    """An unprivileged user starts, uses and stops a separate lab, beside those of other users."""
    home = Path("/tmp") / f"saga-lab-nobody-{os.getpid()}"  # other users can't read pytest's folders
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    mounts = {"base": Path(sys.base_prefix), "site": Path(psutil.__file__).parents[1], "tree": ROOT}
    harness = make_harness("nobody", home=home, cache=home / "cache")
    try:
        for name in mounts:
            (home / name).mkdir()
        source = make_harness("x").paths.cache
        for part in (part for part in ("jars", "java") if (source / part).exists()):
            shutil.copytree(source / part, harness.paths.cache / part)
        for folder in (home / "cache").rglob("*"):
            os.chown(folder, 65534, 65534)
        os.chown(home / "cache", 65534, 65534)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        drop_privileges = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all"
        lab = f"{drop_privileges} $HOME/base/bin/python{version} -m labstack.cli"
        script = "\n".join(
            [
                *(f'mount --bind "{source}" "{home / name}"' for name, source in mounts.items()),
                "cd /",
                *(f"{lab} {words}" for words in ("up", "demo --json", "status --json", "stop order-db", "down")),
            ]
        )
        environment = {
            **{k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "XDG_CACHE_HOME")},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "LAB_NAME": "nobody",
            "PYTHONPATH": f"{home}/site:{home}/tree/lab-stack:{home}/tree",
            "LD_LIBRARY_PATH": f"{home}/base/lib",
        }
        command = ["unshare", "--mount", "sh", "-ec", script]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=540)
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"COMPLETED"' in done.stdout
        assert '"state": "ready"' in done.stdout
        harness.assert_nothing_runs()
    finally:
        harness.record_ports_and_id()
        for left in harness.processes():  # before its folder is gone, by which the lab is known
            left.kill()
        shutil.rmtree(home, ignore_errors=True)
