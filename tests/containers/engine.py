"""A private Docker engine in separate namespaces, for machines without an engine or with one that must not be used.

Debian's packages are unpacked into a folder without installing anything. The engine has its own network, mount and
process namespaces, so that it conflicts with no other engine and leaves nothing behind. A program that connects to
published ports must run in the engine's network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from labstack.install.sources import apt
from labstack.waiting import poll_until, wait_until

CACHE = Path(platformdirs.user_cache_path("saga-lab")) / "standins"
"""The cache folder of the engine's programs and of the inputs and images of the stand-ins."""

PACKAGES = ("docker.io", "containerd", "runc", "mmdebstrap", "iptables", "docker-registry")
IPTABLES_NEEDS = (
    "libip4tc2",
    "libip6tc2",
    "libxtables12",
    "libnftnl11",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
)
"""Libraries that iptables needs. The engine's rules in their network let containers find each other by name."""

START = """
set -e
home=$1 size=$2 data=$3 ending=
ip link set lo up
mount -t proc proc /proc
if [ -n "$size" ]; then
    mkdir -p "$data"
    mount -t tmpfs -o "size=$size" tmpfs "$data"
fi
trap 'ending=yes; kill "$engine"' TERM
while [ -z "$ending" ]; do
    dockerd --iptables=false --ip6tables=false --storage-driver overlay2 --host "unix://$home/docker.sock" \
        --data-root "$data" --exec-root "$home/exec" --pidfile "$home/docker.pid" &
    engine=$!
    while kill -0 "$engine" 2>/dev/null; do wait "$engine" || true; done
done
"""


SUPERVISOR = "SAGA_LAB_TEST_ENGINE"
"""The environment variable with the process id of the supervisor, for programs on the engine."""


SOCKET = "exec/containerd/containerd-debug.sock"
"""The longest path of a socket in the engine's folder."""

SOCKET_LENGTH = 104
"""Maximum length of the path of a socket. containerd rejects longer ones."""


class EngineUnavailable(Exception):
    """An engine can't be run on this machine; the message states the reason."""


def unavailable_reason() -> str:
    """Return why no engine can be run here, or an empty string."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "namespaces need root"
    missing = [name for name in ("apt-get", "dpkg-deb", "unshare", "nsenter", "ip") if not shutil.which(name)]
    return f"there is no {', '.join(missing)}" if missing else ""


def programs(cache: Path) -> Path:
    """Unpack the engine's packages into the cache unless they are there, and return the folder."""
    return unpacked(cache, "engine", (PACKAGES, IPTABLES_NEEDS))


def unpacked(cache: Path, name: str, groups: Sequence[Sequence[str]]) -> Path:
    """Unpack Debian packages into a folder of the cache unless they are there, and return the folder.

    Parameters
    ----------
    cache : Path
        The cache.
    name : str
        Beginning of the folder's name; a digest of the packages' names completes it.
    groups : sequence of sequence of str
        Names of the packages.
    """
    folder = cache / f"{name}-{hashlib.sha256(repr(tuple(groups)).encode()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    partial, packages = cache / f"{name}.partial", cache / f"{name}.packages"
    for made in (partial, packages):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    for package in apt.download([one for group in groups for one in group], packages):
        subprocess.run(["dpkg-deb", "-x", package, partial], check=True)
    for program in ("iptables", "ip6tables"):  # normally created by a script of the package
        (partial / "usr/sbin" / program).unlink(missing_ok=True)
        (partial / "usr/sbin" / program).symlink_to("xtables-nft-multi")
    shutil.rmtree(packages)
    partial.rename(folder)
    return folder


def environment_with_programs(programs: Path) -> dict[str, str]:
    """Return the current environment with the unpacked programs and libraries in its paths."""
    libraries = next((programs / "usr/lib").glob("*-linux-*"))
    return {
        **os.environ,
        "PATH": os.pathsep.join(
            [str(programs / "usr/sbin"), str(programs / "usr/bin"), os.environ["PATH"], "/usr/sbin"]
        ),
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
    }


@dataclass(frozen=True)
class Engine:
    """A running engine.

    Attributes
    ----------
    pid : int
        The process id of its supervisor, as seen from outside. The supervisor restarts an engine that has stopped.
    home : Path
        The engine's folder: socket, images, containers.
    """

    pid: int
    home: Path

    @property
    def address(self) -> str:
        return f"unix://{self.home}/docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a program finds the engine.

        This machine may itself be a container. testcontainers would then look for published ports elsewhere, so the
        connection mode and the host are set explicitly.
        """
        return {
            "DOCKER_HOST": self.address,
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
            "TC_HOST": "127.0.0.1",
            SUPERVISOR: str(self.pid),
        }

    def command_in_network(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs a program in the engine's network."""
        return ["nsenter", f"--target={self.pid}", "--net", *command]


@contextmanager
def engine(cache: Path, home: Path, size: str = "", data: Path | None = None) -> Iterator[Engine]:
    """Run an engine for a block.

    Parameters
    ----------
    cache : Path
        The folder of the engine's programs, which is filled if necessary.
    home : Path
        A folder for the engine.
    size : str
        The maximum size of images and containers, such as ``40m``; empty for no limit.
    data : Path, optional
        The folder of images and containers; by default below `home`.

    Raises
    ------
    EngineUnavailable
        If the engine can't be run here or fails to start; the message of a failed start has its log.
    ValueError
        If the path of the folder is too long for sockets.
    """
    if (length := len(str(home / SOCKET))) > SOCKET_LENGTH:
        too_long = length - SOCKET_LENGTH
        raise ValueError(f"{home} is {too_long} characters too long for sockets; set TMPDIR to a shorter path")
    if reason := unavailable_reason():
        raise EngineUnavailable(reason)
    home.mkdir(parents=True, exist_ok=True)
    environment = environment_with_programs(programs(cache))
    # The engine and all of its containers end with the process that started it.
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    with (home / "engine.log").open("wb") as log:
        outer = subprocess.Popen(
            [*namespaces, "sh", "-c", START, "sh", str(home), size, str(data or home / "data")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"unix://{home}/docker.sock"
        if not poll_until(lambda: outer.poll() is not None or responds(address), 30) or outer.poll() is not None:
            raise EngineUnavailable("the engine did not come up:\n" + (home / "engine.log").read_text()[-2000:])
        yield Engine(children(outer.pid)[0], home)
    finally:
        _end(outer)


def responds(address: str) -> bool:
    """Return whether an engine responds at an address. An HTTP client would leak a socket if nothing listens."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(5)
        connection.connect(address.removeprefix("unix://"))
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(100)
    return False


def restart(supervisor: int, address: str) -> None:
    """Stop an engine with all of its containers gracefully, and return when its successor responds."""
    (before,) = [child for child in children(supervisor) if Path(f"/proc/{child}/comm").read_text() == "dockerd\n"]
    os.kill(before, signal.SIGTERM)
    assert wait_until(lambda: before not in children(supervisor) and responds(address), 60)


def children(pid: int) -> list[int]:
    """Return the ids of a process's child processes."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(outer: subprocess.Popen[bytes]) -> None:
    try:
        os.kill(children(outer.pid)[0], signal.SIGTERM)
        outer.wait(20)
    except (OSError, IndexError, subprocess.TimeoutExpired):
        outer.kill()
    outer.wait()
