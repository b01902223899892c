"""Services are forks of one server, and behave like separately started processes."""

from __future__ import annotations

import os
import sys

import psutil
import pytest

from labstack.backends.processes.forking import is_fork_server
from labstack.backends.processes.process import MARKER, lives
from labstack.waiting import wait_until
from tests.stack.labs import Grounds, python
from tests.stack.one_order import ended, place

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.environ.get("LAB_MODE") == "containers", reason="local mode on Linux has it"
)
SERVICES = ("order", "inventory", "payment", "shipping")


def server_of(grounds: Grounds) -> psutil.Process:
    (server,) = [found for found in grounds.processes() if is_fork_server(found)]
    return server


def test_a_fork_looks_like_a_process_of_its_own(shared: Grounds) -> None:
    """Each service has its own session, mark and command line, and the server is the parent of all four services."""
    pids = shared.pids()
    for name in SERVICES:
        service = psutil.Process(pids[name])
        assert service.ppid() == server_of(shared).pid
        assert os.getsid(service.pid) == service.pid
        assert service.environ()[MARKER] == f"{shared.state()['lab_id']}/{name}"
        assert service.cmdline()[1:] == ["-m", "labservices", name]
        assert service.cwd() == str(shared.paths.state.resolve())
        assert "Uvicorn running" in shared.paths.log(name).read_text()  # the end of a long log may not have it


def test_services_outlive_their_server(shared: Grounds) -> None:
    """The services outlive a killed server, and the next service that starts has a new server."""
    before = shared.pids()
    server = server_of(shared)
    server.kill()
    assert wait_until(lambda: not lives(server), 10)
    assert ended(shared.lab, place(shared.lab)) == ("COMPLETED", None)
    shared.lab.restart("shipping")
    after = shared.pids()
    assert psutil.Process(after["shipping"]).ppid() == server_of(shared).pid != server.pid
    assert {name for name in before if before[name] != after[name]} == {"shipping"}
    assert shared.finding("leftovers").verdict == "ok"


def test_a_setting_of_the_caller_reaches_a_fork(shared: Grounds) -> None:
    """A service has the environment of the command that starts it, not that of its server."""
    shared.lab.stop("shipping")
    shared.must("start", "shipping", LOG_LEVEL="warning")
    assert psutil.Process(shared.pids()["shipping"]).is_running()
    assert "Uvicorn running" not in shared.paths.log("shipping").read_text()
    shared.lab.restart("shipping")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which takes root")
def test_another_user_is_not_served(shared: Grounds) -> None:
    """The server starts nothing for another user."""
    code = f"""
import os, socket
from labstack.backends.processes.forking import ForkServer
from labstack.config.paths import LabPaths
from pathlib import Path
server = ForkServer(LabPaths(Path({str(shared.paths.state)!r}), Path("/")), {shared.state()["lab_id"]!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
connection = server._connect()
try:
    socket.send_fds(connection, [b'{{"argv": ["this"], "env": {{}}}}'], [1])
    print(connection.recv(32))
except OSError as error:
    print(b"")
"""
    assert python(code, shared.environment).strip() == "b''"
    assert ended(shared.lab, place(shared.lab)) == ("COMPLETED", None)
