"""Other users of the machine: the lab neither uses their files in shared folders nor fails because of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstack.backends.processes.forking import ForkServer
from labstack.backends.processes.java.agent import NotLoaded, load_agent
from labstack.config.paths import LabPaths

STRANGER = 123456
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")

BECOME = f"import os; os.setgid({STRANGER}); os.setuid({STRANGER})\n"
"""Run after the imports: another user may not be able to read this Python."""

LISTEN = f"""
import socket, sys
{BECOME}
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("\\0" + sys.argv[1])
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
print(connection.recv(100), flush=True)
"""


@as_root
@pytest.mark.skipif(sys.platform != "linux", reason="the fork server needs Linux")
def test_fork_server_of_another_user_gets_no_request(tmp_path: Path) -> None:
    """A program of another user under the fork server's name receives nothing, not even the database's password."""
    server = ForkServer(LabPaths(tmp_path, tmp_path), "lab-of-test-other-users")
    command = [sys.executable, "-c", LISTEN, server._socket]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "listening\n"
        assert server._connect() is None
        assert other.stdout.readline() == "b''\n"


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of this user that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, HotSpot uses the user's own folder")
@pytest.mark.parametrize("kind", ["file", "link", "socket of another user"])
def test_agents_are_loaded_over_the_sockets_of_this_user_only(kind: str, sleeper: int, tmp_path: Path) -> None:
    """A file, a link or another user's socket in the place of a Java process' socket gets no command."""
    place = Path(f"/tmp/.java_pid{sleeper}")
    target = place.with_suffix(".target")  # not in pytest's folder, whose path can be too long for a socket
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(0)
        try:
            if kind == "file":
                place.touch()
            else:
                own = target if kind == "link" else place
                listener.bind(str(own))
                listener.listen()
                if kind == "link":
                    place.symlink_to(own)
                elif os.geteuid() == 0:
                    os.chown(place, STRANGER, STRANGER)
                else:
                    pytest.skip("only root can make a socket of another user")
            with pytest.raises(NotLoaded, match="is not its socket"):
                load_agent(sleeper, tmp_path / "agent.jar", "")
            if kind != "file":
                with pytest.raises(BlockingIOError):
                    listener.accept()
        finally:
            place.unlink(missing_ok=True)
            target.unlink(missing_ok=True)


def test_folders_are_accessible_to_their_user_only(tmp_path: Path) -> None:
    """The folders of a lab, and the parents that it creates, have mode 0700 under every umask; open ones are closed."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    before = os.umask(0)
    try:
        paths = LabPaths(tmp_path / "state" / "saga-lab" / "default", tmp_path / "open")
        paths.make()
    finally:
        os.umask(before)
    made = [paths.state, *list(paths.state.parents)[:2], paths.state / "logs", paths.state / "data"]
    assert {folder.stat().st_mode & 0o777 for folder in made} == {0o700}
    assert paths.cache.stat().st_mode & 0o022 == 0


@as_root
def test_folder_of_another_user_is_refused() -> None:
    """A state folder that another user made is refused, even if everyone may write to it."""
    program = (
        "import sys; from pathlib import Path; from labstack.config.paths import LabPaths\n"
        f"{BECOME}LabPaths(Path(sys.argv[1]), Path(sys.argv[1])).make()"
    )
    with tempfile.TemporaryDirectory() as state:
        os.chmod(state, 0o777)
        done = subprocess.run([sys.executable, "-c", program, state], capture_output=True, text=True)
    assert "belongs to another user" in done.stderr
