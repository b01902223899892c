"""`lab run`: a service in a terminal, for a debugger, and back in the lab afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labstack.waiting import wait_until
from tests.stack.labs import LabHarness

REPORTING = """
import sys
from labservices.payment import handlers
original = handlers.HANDLERS.copy()

def report_and_handle(kind):
    def handle(tx, event):
        print("order", event.order_id, "is charged now", flush=True)
        original[kind](tx, event)
    return handle

handlers.HANDLERS.update({kind: report_and_handle(kind) for kind in original})
sys.argv = ["labservices", "payment"]
from labservices.__main__ import main
sys.exit(main())
"""
"""A stand-in for a debugger: a program that runs the service in its own process, and acts when a handler is called."""


def pid_of(shared: LabHarness, name: str) -> int | None:
    """Return the process id of a component that runs and serves."""
    status = shared.lab.status(memory=False)
    component = status.components[name]
    return component.pid if component.state == "running" and name not in status.complaints else None


@contextmanager
def in_terminal(shared: LabHarness, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run `lab run WORDS` in a separate process group, as a terminal does; kill what is left of it at the end."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        shared.command("run", *words),
        env=shared.environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        assert running.stdout is not None
        running.stdout.close()
        os.close(ours)
        os.close(theirs)
        shared.lab.start(words[0])


@pytest.mark.timeout(180)
def test_a_service_runs_in_the_terminal_until_ctrl_c(shared: LabHarness) -> None:
    """The service serves from the terminal, handles events there, and after Ctrl-C the lab runs it again."""
    before = pid_of(shared, "payment")
    with in_terminal(shared, "payment", sys.executable, "-c", REPORTING) as running:
        wait_until(lambda: pid_of(shared, "payment") not in (None, before), 60, what="payment to run in the terminal")
        here = pid_of(shared, "payment")
        assert shared.run_checked("demo", "--json")
        os.killpg(running.pid, signal.SIGINT)  # as the terminal does
        output, _ = running.communicate(timeout=60)
        assert "is charged now" in output
        assert "The lab runs payment again." in output
        assert pid_of(shared, "payment") not in (None, before, here)


@pytest.mark.timeout(120)
def test_the_status_of_the_command_is_returned(shared: LabHarness) -> None:
    """A command that fails returns its exit status, and the lab runs the service again."""
    done = shared.run(
        "run", "payment", sys.executable, "-c", "import os, sys; sys.exit(len(os.environ['LAB_DATABASE_URL']) > 0)"
    )
    assert (done.returncode, "The lab runs payment again." in done.stderr) == (1, True), done.stderr
    assert pid_of(shared, "payment")


@pytest.mark.timeout(120)
def test_a_stopped_service_stays_stopped(shared: LabHarness) -> None:
    """`lab stop` ends the service in the terminal, too, and then the lab does not start it again."""
    before = pid_of(shared, "payment")
    with in_terminal(shared, "payment") as running:
        wait_until(lambda: pid_of(shared, "payment") not in (None, before), 60, what="payment to run in the terminal")
        shared.lab.stop("payment")
        output, _ = running.communicate(timeout=30)
        assert "The lab runs payment again." not in output
        assert shared.lab.status(memory=False).components["payment"].state == "stopped"


def test_wrong_calls_change_nothing(shared: LabHarness) -> None:
    """A component other than a service, and a program that does not exist, are refused; the service keeps running."""
    before = pid_of(shared, "payment")
    refused = shared.run("run", "kafka")
    assert (refused.returncode, "kafka is not a service" in refused.stderr) == (1, True)
    refused = shared.run("run", "payment", "no-such-debugger")
    assert (refused.returncode, "There is no program 'no-such-debugger'" in refused.stderr) == (1, True)
    assert pid_of(shared, "payment") == before
