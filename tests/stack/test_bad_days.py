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
from labstack.waiting import wait_until
from tests.stack.labs import COMPONENTS, ROOT, Grounds, finish
from tests.suite.chance import short_sample
from tests.suite.no_network import ALONE, needs_to_be_alone

MakeGrounds = Callable[..., Grounds]


def half_started(grounds: Grounds) -> subprocess.Popen[str]:
    """Start `lab up`, and return when it has started at least two components."""
    up = grounds.begin("up")
    assert wait_until(lambda: len(grounds.state().get("components", {})) >= 2, 60, interval=0.005)
    assert up.poll() is None
    return up


def assert_clear(done: subprocess.CompletedProcess[str], *words: str) -> None:
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
def test_an_interrupted_start_ends_all(grounds: Grounds, how: signal.Signals) -> None:
    """Ctrl-C, `kill` or a closed terminal during startup stops everything that was started."""
    up = half_started(grounds)
    up.send_signal(how)
    status, _, err = finish(up)
    assert status == 130
    assert "Traceback" not in err
    grounds.assert_nothing_runs()
    assert grounds.status()["state"] == "stopped"


def test_an_impatient_interrupt_ends_all(grounds: Grounds) -> None:
    """Repeated Ctrl-C during startup still stops everything that was started."""
    up = half_started(grounds)
    for _ in range(3):
        up.send_signal(signal.SIGINT)
        wait_until(lambda: up.poll() is not None, 0.2)
    assert finish(up)[0] != 0
    grounds.assert_nothing_runs()


def forget_one(grounds: Grounds) -> None:
    """Remove the newest component from the state, as if `lab up` had died between its start and its record."""
    state = grounds.state()
    state["components"].popitem()
    grounds.paths.state_file.write_text(json.dumps(state))


@pytest.mark.parametrize("forgets", [pytest.param(False, marks=pytest.mark.long), True], ids=["noted", "not noted"])
def test_up_goes_on_after_a_crashed_starter(grounds: Grounds, forgets: bool) -> None:
    """After `lab up` is killed, `lab status` and `lab doctor` report it, and another `lab up` completes the startup."""
    up = half_started(grounds)
    os.killpg(up.pid, signal.SIGKILL)
    finish(up)
    if forgets:
        forget_one(grounds)
    before = grounds.pids()
    assert grounds.status()["state"] in ("degraded", "stopped")
    leftovers = grounds.finding("leftovers")
    assert leftovers.verdict == "warning"
    assert "lab up" in leftovers.advice
    assert "lab down" in leftovers.advice
    grounds.must("up")
    assert grounds.status()["state"] == "ready"
    assert before.items() <= grounds.pids().items()
    assert grounds.finding("leftovers").verdict == "ok"


def test_down_ends_what_a_crashed_starter_left(grounds: Grounds) -> None:
    """`lab down` stops everything that a killed `lab up` has started, recorded or not."""
    up = half_started(grounds)
    os.killpg(up.pid, signal.SIGKILL)
    finish(up)
    assert grounds.processes()
    forget_one(grounds)
    grounds.must("down")
    grounds.assert_nothing_runs()


# --- the state file


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"phase": "ready"}', "\x00\xff", '{"keeper": null, "components": []}']
)
def test_a_damaged_state_file(grounds: Grounds, damage: str) -> None:
    """A damaged state file is named in the error, `lab status` still works, and `lab down` repairs it."""
    grounds.paths.make()
    grounds.paths.state_file.write_bytes(damage.encode("latin-1"))
    assert grounds.lab.status().state == "stopped"
    for shown in (repr(grounds.lab), grounds.lab._repr_html_()):
        assert str(grounds.paths.state_file) in shown
    with pytest.raises(LabError, match=r"(?s)state\.json is damaged.*lab down"):
        grounds.lab.up()
    grounds.lab.down()
    assert grounds.state()["phase"] == "stopped"


def test_down_with_a_damaged_state_file_ends_the_lab(grounds: Grounds) -> None:
    """If a running lab's state file is damaged, `lab down` still stops every process, and keeps the data."""
    grounds.must("up")
    order = json.loads(grounds.must("demo", "--json"))["order_id"]
    grounds.note()
    grounds.paths.state_file.write_text("nonsense")
    assert grounds.status()["state"] == "degraded"
    grounds.must("down")
    grounds.assert_nothing_runs()
    grounds.must("up")
    from tests.stack.orders import all_orders

    assert order in all_orders(grounds.lab)


def test_the_state_file_of_a_dead_lab(grounds: Grounds) -> None:
    """Pids of exited or foreign processes are not taken for the lab's; status and shutdown do not touch them."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        grounds.must("down")
        grounds.paths.make()
        record = {"process": {"pid": bystander.pid, "born": 1000.0}, "stopped_on_purpose": False}
        dead = {"process": {"pid": gone.pid, "born": 2000.0}, "stopped_on_purpose": False}
        state = {
            "lab_id": "0123456789ab",
            "mode": "local",
            "phase": "ready",
            "keeper": dead["process"],
            "ports": {},
            "components": {name: record if number % 2 else dead for number, name in enumerate(COMPONENTS)},
        }
        grounds.paths.state_file.write_text(json.dumps(state))
        assert grounds.status()["state"] == "stopped"
        grounds.must("down")
        assert bystander.poll() is None
        assert bystander.stdin
        bystander.stdin.close()


# --- ports


def test_a_taken_port_is_replaced(make_grounds: MakeGrounds) -> None:
    """If a usual port is taken, the lab uses another one, and reports it with the process that holds the first."""
    usual = load_services()[0].port
    grounds = make_grounds()
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", usual))
            holder.listen()
        except OSError:
            pass  # another lab on this machine holds it, which has the same effect
        up = grounds.run("up")
        assert up.returncode == 0
        assert f"port {usual}" in up.stderr or "more" in up.stderr  # other labs' ports may be named before it
        assert "pid" in up.stderr or "another lab" in up.stderr
        assert grounds.state()["ports"]["order"] != usual
        assert grounds.status()["state"] == "ready"


def test_a_port_taken_between_stop_and_start(shared: Grounds) -> None:
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


def copied(tmp_path: Path) -> Path:
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


@pytest.mark.parametrize("part", short_sample(BREAKS, 1))
def test_a_part_that_dies_while_starting(grounds: Grounds, tmp_path: Path, part: str) -> None:
    """A failed startup names the component, the end of its log and the next step, and leaves no process."""
    stack = copied(tmp_path)
    spoil, word = BREAKS[part]
    spoil(stack)
    done = grounds.run("up", PYTHONPATH=str(stack))
    assert_clear(done, word)
    assert part.removeprefix("order") in done.stderr
    grounds.assert_nothing_runs()
    assert grounds.status()["state"] == "stopped"
    # Without the cause, the same lab starts.
    if part == "order-db":
        grounds.must("up")


def test_a_service_that_dies_while_starting(grounds: Grounds, tmp_path: Path) -> None:
    """A bad row in the data is a startup error that names file and line, and leaves no process."""
    stack = copied(tmp_path)
    (tmp_path / "datasets").unlink()
    shutil.copytree(DATASETS, tmp_path / "datasets")
    with (tmp_path / "datasets" / "products.csv").open("a") as file:
        file.write("bad sku,Bad,minus one,EUR,1\n")
    assert_clear(grounds.run("up", PYTHONPATH=str(stack)), "products.csv", "sku")
    grounds.assert_nothing_runs()


def test_a_service_whose_code_is_broken(shared: Grounds, tmp_path: Path) -> None:
    """Any verb that starts the service reports its syntax error with file and line; without it, the service starts."""
    shutil.copytree(ROOT / "labservices", tmp_path / "labservices", ignore=shutil.ignore_patterns("__pycache__"))
    handlers = tmp_path / "labservices" / "payment" / "handlers.py"
    whole = handlers.read_text()
    handlers.write_text("def charge(:\n" + whole)
    shared.lab.stop("payment")
    before = shared.pids()
    for verb in (("start", "payment"), ("up",), ("reset",)):
        done = shared.run(*verb, PYTHONPATH=str(tmp_path))
        assert_clear(done, "SyntaxError", "fix labservices/payment/handlers.py, line 1", "lab start payment")
    assert before.items() <= shared.pids().items()
    handlers.write_text(whole)
    shared.must("start", "payment", PYTHONPATH=str(tmp_path))
    assert shared.status()["state"] == "ready"


def test_a_failed_up_keeps_what_ran(shared: Grounds, tmp_path: Path) -> None:
    """A `lab up` that can't start one component of a running lab does not change the others."""
    stack = copied(tmp_path)
    break_connect(stack)
    shared.lab.stop("connect")
    before = shared.pids()
    assert_clear(shared.run("up", PYTHONPATH=str(stack)), "right format")
    assert shared.pids() == before
    shared.must("up")
    assert shared.status()["state"] == "ready"


# --- disks


needs_namespace = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="mounts a small disk, which takes root and unshare(1)"
)


def in_private_mounts(grounds: Grounds, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a private mount namespace; `$LAB` is the lab's command."""
    command = ["unshare", "--mount", "sh", "-ec", script]
    lab = {"LAB": f"{sys.executable} -m labstack.cli", "PYTHON": sys.executable, "STATE": str(grounds.home)}
    environment = {**grounds.environment, **lab, **variables}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    if "permission denied" in done.stderr and "mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount a file system, not even in a namespace of its own")
    return done


@needs_namespace
@pytest.mark.parametrize("megabytes", [4, pytest.param(60, marks=pytest.mark.long)])
def test_a_full_disk(grounds: Grounds, megabytes: int) -> None:
    """A disk that is too small for any of the components is a clear error, and no process is left."""
    mount = f'mount -t tmpfs -o size={megabytes}m none "$STATE"'
    done = in_private_mounts(grounds, f'{mount}; $LAB up || echo "status $?"; $LAB status --json; $LAB down')
    assert "Traceback" not in done.stderr
    assert "status 1" in done.stdout, done.stdout + done.stderr
    assert "Next step: " in done.stderr
    assert '"state": "stopped"' in done.stdout
    grounds.assert_nothing_runs()


@needs_namespace
def test_a_disk_that_fills_up(grounds: Grounds) -> None:
    """On a disk that fills up while the lab runs, `lab status` still reports, and `lab down` stops everything."""
    script = """
        mount -t tmpfs -o size=1000m none "$STATE"
        $LAB up
        dd if=/dev/zero of="$STATE/filler" bs=1M 2>/dev/null || true
        $LAB status --json
        $LAB down
        $LAB status --json
    """
    done = in_private_mounts(grounds, script)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert '"state": "stopped"' in done.stdout.splitlines()[-1]
    grounds.assert_nothing_runs()


LEARNER = """
import os
import psutil
from labkit import begin
from labstack.errors import LabError

def said(what, *words):
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

def order_until_one_stays():
    for _ in range(40):
        fill()
        shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1}), timeout=20)

lab, shop, look, tasks = begin("01")
filler = os.environ["STATE"] + "/filler"
said(order_until_one_stays)
psutil.Process(lab.status().components["shipping"].pid).kill()  # so that there is something to start
said(lambda: begin("02"), "No space left", "free some space")
said(lab.reset, "No space left", "free some space")
os.remove(filler)
lab.reset()
print(shop.follow(shop.place_order("ada", "lisbon", {"earl-grey": 1})))
assert all(verdict.holds for verdict in lab.check(wait_for_rest=30))
"""


@pytest.mark.long
@needs_namespace
def test_a_notebook_on_a_disk_that_fills_up(grounds: Grounds) -> None:
    """On a full disk, a learner gets an error with the next step; with free space, a reset restores everything."""
    mount = 'mount -t tmpfs -o size=1000m none "$STATE"'
    done = in_private_mounts(grounds, f'{mount}; $LAB up; $PYTHON -c "$LEARNER"; $LAB down', LEARNER=LEARNER)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    assert "COMPLETED" in done.stdout
    grounds.assert_nothing_runs()


@needs_namespace
def test_a_read_only_folder(grounds: Grounds) -> None:
    """If no file can be written, the startup error names the folder and the environment variable for another."""
    script = 'mount -t tmpfs -o ro none "$STATE"; $LAB status --json; $LAB up'
    done = in_private_mounts(grounds, script)
    assert_clear(done, str(grounds.home), "XDG_STATE_HOME", "Read-only")


# --- no network


@needs_to_be_alone
def test_no_network_at_all(grounds: Grounds) -> None:
    """On a machine with only a loopback interface, such as a laptop on a train, an order completes."""
    command = [*ALONE, "sh", "-c", "$LAB up && $LAB demo --json && $LAB down"]
    environment = {**grounds.environment, "LAB": f"{sys.executable} -m labstack.cli"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "COMPLETED"' in done.stdout
    grounds.assert_nothing_runs()


# --- other users


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))),
    reason="runs the lab as another user, which takes root",
)
def test_a_plain_user(make_grounds: MakeGrounds, tmp_path: Path) -> None:
    """An unprivileged user starts, uses and stops a separate lab, beside those of other users."""
    home = Path("/tmp") / f"saga-lab-nobody-{os.getpid()}"  # other users can't read pytest's folders
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    places = {"base": Path(sys.base_prefix), "site": Path(psutil.__file__).parents[1], "tree": ROOT}
    try:
        for name in places:
            (home / name).mkdir()
        grounds = make_grounds("nobody", home=home, cache=home / "cache")
        shutil.copytree(make_grounds("x").paths.cache / "jars", grounds.paths.cache / "jars")
        for folder in (home / "cache").rglob("*"):
            os.chown(folder, 65534, 65534)
        os.chown(home / "cache", 65534, 65534)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        become = "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all"
        lab = f"{become} $HOME/base/bin/python{version} -m labstack.cli"
        script = "\n".join(
            [
                *(f'mount --bind "{place}" "{home / name}"' for name, place in places.items()),
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
        grounds.assert_nothing_runs()
    finally:
        shutil.rmtree(home, ignore_errors=True)
