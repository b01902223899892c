"""Labs for tests: each has separate folders, is driven as a user would, and is observed from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
from click.testing import CliRunner

from labstack import Lab
from labstack.backends.base import ComponentStatus
from labstack.backends.docker.backend import LAB_LABEL
from labstack.backends.docker.engine import engine
from labstack.backends.processes.process import MARKER
from labstack.cli import INTERRUPTIONS, main
from labstack.config.paths import LabPaths
from labstack.findings import Finding
from labstack.lab import access_of
from labstack.lifecycle.doctor import examine
from labstack.state import StateStore
from labstack.waiting import poll_until

ROOT = Path(__file__).resolve().parents[2]
# The usual control plane of each backend; `test_mesh.py` runs on both, if both are installed.
CONTROL_PLANE = os.environ.setdefault(
    "LAB_CONTROL_PLANE", "istiod" if os.environ.get("LAB_MODE") == "containers" else "translator"
)
COMPONENTS = (
    *("order-db", "inventory-db", "payment-db", "shipping-db", "kafka", "connect", "connect-watcher"),
    *("order", "inventory", "payment", "shipping"),
    *(("istiod",) if CONTROL_PLANE == "istiod" else ()),
    "envoy",
)


class LabHarness:
    """One lab's folders, and everything that a test does with that lab.

    Parameters
    ----------
    name : str
        The lab's name.
    home : Path, optional
        XDG_STATE_HOME of the lab; default: a new temporary folder.
    cache : Path, optional
        XDG_CACHE_HOME of the lab; default: the user's cache, which already has the programs.
    environment : mapping, optional
        Additional environment variables for its commands.
    """

    open: ClassVar[list[LabHarness]] = []
    """Labs that this process has created and not closed yet."""

    def __init__(
        self,
        name: str = "test",
        home: Path | None = None,
        cache: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.own_home = home is None
        self.home = home or Path(tempfile.mkdtemp(prefix="saga-lab-test-"))
        self.paths = LabPaths(self.home / "saga-lab" / name, cache or LabPaths.of_user().cache)
        self.environment = {**os.environ, "XDG_STATE_HOME": str(self.home), "LAB_NAME": name, **(environment or {})}
        if cache:
            # platformdirs appends the lab's own folder to the variable's value.
            self.paths = replace(self.paths, cache=cache / "saga-lab")
            self.environment["XDG_CACHE_HOME"] = str(cache)
        self.lab = Lab(paths=self.paths)
        self.ports: set[int] = set()
        self.lab_ids: set[str] = set()
        self._started: list[subprocess.Popen[str]] = []
        self.open.append(self)

    @classmethod
    def of(cls, lab: Lab) -> LabHarness:
        """Return the harness of a lab that the caller does not start and stop."""
        harness = cls((state := access_of(lab).paths.state).name, home=state.parent.parent)
        cls.open.remove(harness)
        return harness

    # --- driving it

    def command(self, *words: str) -> list[str]:
        """Return the command line of a verb."""
        # -P: as for the installed command, nothing is imported from the working directory.
        return [sys.executable, "-P", "-m", "labstack.cli", *words]

    def run(self, *words: str, timeout: float = 150, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `lab WORDS` and return its result, even if it fails.

        Commands that start or stop the lab, or have another environment, run in a separate process. The others run in
        this process, which saves the second that the imports take.
        """
        if not variables and words[0] not in ("up", "down", "--mode"):
            done = self._run_here(*words)
            self.record_ports_and_id()
            return done
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
        )
        self.record_ports_and_id()
        return done

    def _run_here(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `lab WORDS` in this process."""
        handlers = {which: signal.getsignal(which) for which in INTERRUPTIONS}
        before = Path.cwd()
        try:
            done = CliRunner().invoke(main, words, env=self.environment)
        finally:
            os.chdir(before)
            for which, handler in handlers.items():
                signal.signal(which, handler)
        error = done.exception
        trace = "" if error is None or isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
        return subprocess.CompletedProcess(list(words), done.exit_code, done.stdout, done.stderr + trace)

    def run_checked(self, *words: str, **variables: str) -> str:
        """Run `lab WORDS`, which must succeed, and return its standard output."""
        done = self.run(*words, timeout=150, **variables)
        assert done.returncode == 0, f"lab {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def make_ready(self) -> None:
        """Repair the lab if the previous test left it broken."""
        status = self.lab.status(memory=False)
        if status.state != "ready" or status.complaints or status.switches:
            self.reset_or_recreate()

    def reset_or_recreate(self) -> None:
        """Reset the lab to the start of the course, or recreate it if the reset fails.

        Otherwise all tests after the one that broke the lab would fail, too.
        """
        try:
            self.lab.reset()
        except Exception:  # the test that broke the lab reports the cause
            self.run_checked("down", "--purge")
            self.run_checked("up")

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start `lab WORDS` in a new session, and return at once."""
        process = subprocess.Popen(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**self.environment, **variables},
            start_new_session=True,
            # If the tests run under nohup, their children must still receive SIGHUP from a closed terminal.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )
        self._started.append(process)
        return process

    # --- observing it

    def state(self) -> dict[str, Any]:
        """Return the content of the lab's state file; empty if there is none."""
        with contextlib.suppress(FileNotFoundError):
            content: dict[str, Any] = json.loads(self.paths.state_file.read_text(encoding="utf-8"))
            return content
        return {}

    def status(self) -> dict[str, Any]:
        """Return the output of `lab status --json`."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    def pids(self) -> dict[str, int]:
        """Return the pid of each running component; for a container, the pid that its engine reports."""
        components = self.lab.status(memory=False).components
        pids = {name: pid_of(component) for name, component in components.items()}
        return {name: pid for name, pid in pids.items() if pid}

    def finding(self, check: str) -> Finding:
        """Return the finding of one check of `lab doctor`."""
        return next(found for found in examine(access_of(self.lab)) if found.check == check)

    def state_of(self, component: str) -> str:
        """Return the state of one component."""
        return access_of(self.lab).backend().inspect(component).state

    def processes(self) -> list[psutil.Process]:
        """Return every running process that has this lab's mark or works in its folders.

        PostgreSQL's backends overwrite their environment with the title for `ps`, but they work in their data folder.
        """
        self.record_ports_and_id()
        folder = str(self.paths.state.resolve()) + os.sep
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                mark = process.environ().get(MARKER, "").split("/")[0]
                if mark in self.lab_ids or (process.cwd() + os.sep).startswith(folder):
                    found.append(process)
        return found

    def docker_resources(self) -> list[str]:
        """Return the containers, networks and volumes that carry this lab's label."""
        if access_of(self.lab).backend().mode != "containers":
            return []
        client, label = engine(), {"label": f"{LAB_LABEL}={StateStore(self.paths).lab_id}"}
        containers = client.containers.list(all=True, filters=label, ignore_removed=True)
        parts = {"container": containers, "network": client.networks.list(filters=label)}
        parts["volume"] = client.volumes.list(filters=label)
        return [f"{kind} {one.name}" for kind, found in parts.items() for one in found]

    def record_ports_and_id(self) -> None:
        """Record the ports and the ID that the lab has now."""
        with contextlib.suppress(ValueError, AttributeError):
            state = self.state()
            self.ports |= set(state.get("ports", {}).values())
            self.lab_ids |= {state["lab_id"]} if "lab_id" in state else set()

    def listeners(self) -> list[int]:
        """Return the recorded ports of this lab on which one of its processes listens."""
        found = []
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                mark = psutil.Process(connection.pid).environ().get(MARKER, "").split("/")[0]
                if connection.laddr.port in self.ports and mark in self.lab_ids:
                    found.append(connection.laddr.port)
        return found

    def assert_nothing_runs(self) -> None:
        """Assert that no process and no listening port is left."""
        poll_until(lambda: not self.processes(), 3)
        left = [(process.pid, process.name(), process.status()) for process in self.processes()]
        assert left == []
        assert [one for one in self.docker_resources() if not one.startswith("volume ")] == []  # the data stay
        assert self.listeners() == []

    def close(self) -> None:
        """Stop the lab, whatever its state, and remove its folders; fail if a process or port is left."""
        self.open.remove(self)
        try:
            for process in self._started:
                if process.poll() is None:
                    signal_group(process, signal.SIGKILL)
                process.communicate()
            self.record_ports_and_id()
            self.lab.down(purge=True)
            self.assert_nothing_runs()
        finally:
            for left in self.processes():
                with contextlib.suppress(psutil.Error):
                    left.kill()
            if self.own_home:
                shutil.rmtree(self.home, ignore_errors=True)


def pid_of(component: ComponentStatus) -> int | None:
    """Return the pid of a component's process."""
    if component.container and component.state in ("running", "paused"):
        return int(engine().containers.get(component.container).attrs["State"]["Pid"])
    return component.pid


def signal_group(process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Send a signal to a process and to all in its group."""
    os.killpg(process.pid, how)


def wait_for_exit(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    """Wait for a process to exit, and return its exit status and what it printed."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def run_python(code: str, environment: Mapping[str, str], *, timeout: float = 60) -> str:
    """Run Python code in a separate process, which must succeed, and return its standard output."""
    words: Sequence[str] = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(environment), timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout
