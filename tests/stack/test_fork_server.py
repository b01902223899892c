"""Services are forks of one server, and behave like separately started processes."""

from __future__ import annotations

import os
import sys

import psutil
import pytest

from labstack.backends.processes.fork_server import LIBRARIES
from labstack.backends.processes.forking import is_fork_server
from labstack.backends.processes.process import MARKER
from labstack.process_id import is_alive
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness, run_python
from tests.stack.one_order import place_order, wait_for_outcome

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.environ.get("LAB_MODE") == "containers", reason="local mode on Linux has it"
)
SERVICES = ("order", "inventory", "payment", "shipping")


def find_fork_server(harness: LabHarness) -> psutil.Process:
    (server,) = [found for found in harness.processes() if is_fork_server(found)]
    return server


def test_fork_has_its_own_session_mark_and_command_line(shared: LabHarness) -> None:
    """Each service has its own session, mark and command line, and the server is the parent of all four services."""
    pids = shared.pids()
    for name in SERVICES:
        service = psutil.Process(pids[name])
        assert service.ppid() == find_fork_server(shared).pid
        assert os.getsid(service.pid) == service.pid
        assert service.environ()[MARKER] == f"{shared.state()['lab_id']}/{name}"
        assert service.cmdline()[1:] == ["-m", "labservices", name]
        assert service.cwd() == str(shared.paths.state.resolve())
        assert "Uvicorn running" in shared.paths.log(name).read_text()  # the end of a long log may not have it


def test_services_survive_a_killed_fork_server(shared: LabHarness) -> None:
    """The services outlive a killed server, and the next service that starts has a new server."""
    before = shared.pids()
    server = find_fork_server(shared)
    server.kill()
    assert wait_until(lambda: not is_alive(server), 10)
    assert wait_for_outcome(shared.lab, place_order(shared.lab)) == ("COMPLETED", None)

    def is_forked() -> bool:  # a service starts as an ordinary process while a new server imports for over 15 s
        shared.lab.restart("shipping")
        return psutil.Process(shared.pids()["shipping"]).ppid() == find_fork_server(shared).pid

    assert wait_until(is_forked, 120)
    assert find_fork_server(shared).pid != server.pid
    after = shared.pids()
    assert {name for name in before if before[name] != after[name]} == {"shipping"}
    assert shared.finding("leftovers").verdict == "ok"


def test_fork_gets_the_environment_of_the_calling_command(shared: LabHarness) -> None:
    """A service has the environment of the command that starts it, not that of its server."""
    shared.lab.stop("shipping")
    shared.run_checked("start", "shipping", LAB_LOG_LEVEL="warning")
    assert psutil.Process(shared.pids()["shipping"]).is_running()
    assert "Uvicorn running" not in shared.paths.log("shipping").read_text()
    shared.lab.restart("shipping")


def test_fork_server_imports_every_library_of_the_services() -> None:
    """A service that starts by a fork imports only the project's code and the standard library."""
    code = f"""
import importlib, sys
for library in {LIBRARIES!r}:
    importlib.import_module(library)
before = set(sys.modules)
import labservices.runtime, labservices.faults.switches
for service in {SERVICES!r}:
    importlib.import_module("labservices." + service)
print([name for name in sorted(set(sys.modules) - before)
       if name.partition(".")[0] not in {{*sys.stdlib_module_names, "labservices"}}])
"""
    assert run_python(code, dict(os.environ)).strip() == "[]"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which takes root")
def test_fork_server_rejects_other_users(shared: LabHarness) -> None:
    """The server starts nothing for another user."""
    code = f"""
import os, socket
from labstack.backends.processes.forking import ForkServer
from labstack.config.paths import LabPaths
from pathlib import Path
server = ForkServer(LabPaths(Path({str(shared.paths.state)!r}), Path("/")), {shared.state()["lab_id"]!r})
os.setgroups([]); os.setgid(65534); os.setuid(65534)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # the client itself trusts no other user's server
connection.settimeout(20)
connection.connect(chr(0) + server._socket)
try:
    socket.send_fds(connection, [b'{{"argv": ["this"], "env": {{}}}}'], [1])
    print(connection.recv(32))
except OSError as error:
    print(b"")
"""
    assert run_python(code, shared.environment).strip() == "b''"
    assert wait_for_outcome(shared.lab, place_order(shared.lab)) == ("COMPLETED", None)
