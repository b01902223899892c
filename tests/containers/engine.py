"""A Docker engine of its own, in namespaces of its own, where none is there, or none may be used.

Debian's packages are unpacked into a folder, nothing is installed; the engine gets a network, a mount and a process
namespace, so that it meets no other and leaves nothing behind. What talks to published ports runs in its network.
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

from labstack.install import apt
from labstack.waiting import wait_until

CACHE = Path(platformdirs.user_cache_path("saga-lab")) / "standins"
"""Where the engine's programs, and what the stand-ins are made of, are kept."""

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
"""Containers find each other by name through rules that the engine lays in their network."""

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
"""The variable that tells a program inside which process supervises its engine."""


class CannotRun(Exception):
    """An engine can't be run on this machine; says why."""


def obstacle() -> str:
    """Say why no engine can be run here, or nothing."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "namespaces need root"
    missing = [name for name in ("apt-get", "dpkg-deb", "unshare", "nsenter", "ip") if not shutil.which(name)]
    return f"there is no {', '.join(missing)}" if missing else ""


def programs(cache: Path) -> Path:
    """Unpack the engine's packages into the cache, once, and return the folder."""
    folder = cache / f"engine-{hashlib.sha256(repr((PACKAGES, IPTABLES_NEEDS)).encode()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    growing, packages = cache / "engine.partial", cache / "engine.packages"
    for made in (growing, packages):
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
    for package in apt.download([*PACKAGES, *IPTABLES_NEEDS], packages):
        subprocess.run(["dpkg-deb", "-x", package, growing], check=True)
    for name in ("iptables", "ip6tables"):  # else made by a script of the package
        (growing / "usr/sbin" / name).unlink(missing_ok=True)
        (growing / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    shutil.rmtree(packages)
    growing.rename(folder)
    return folder


def with_programs(programs: Path) -> dict[str, str]:
    """Return this environment with the unpacked programs and libraries in it."""
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
        Of its supervisor, as seen from outside; a supervisor starts an engine that has ended again.
    home : Path
        Its folder: socket, images, containers.
    """

    pid: int
    home: Path

    @property
    def address(self) -> str:
        return f"unix://{self.home}/docker.sock"

    @property
    def environment(self) -> dict[str, str]:
        """What a program inside needs to find it. (This machine may itself be a container, which testcontainers would
        take for a reason to look for published ports elsewhere.)
        """
        return {
            "DOCKER_HOST": self.address,
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
            "TC_HOST": "127.0.0.1",
            SUPERVISOR: str(self.pid),
        }

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs a program in the engine's network."""
        return ["nsenter", f"--target={self.pid}", "--net", *command]


@contextmanager
def engine(cache: Path, home: Path, size: str = "", data: Path | None = None) -> Iterator[Engine]:
    """Run an engine for the length of a block.

    Parameters
    ----------
    cache : Path
        Where its programs are, or will be.
    home : Path
        A folder for it.
    size : str
        How much room it has for images and containers, such as ``40m``; empty for whatever the disk has.
    data : Path, optional
        Where it keeps images and containers; by default below `home`.

    Raises
    ------
    CannotRun
        It can't be run here, or did not come up; its log is in the message.
    """
    if why := obstacle():
        raise CannotRun(why)
    home.mkdir(parents=True, exist_ok=True)
    environment = with_programs(programs(cache))
    # It dies with whoever started it, and all of its containers with it.
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
        if not wait_until(lambda: outer.poll() is not None or answers(address), 30) or outer.poll() is not None:
            raise CannotRun("the engine did not come up:\n" + (home / "engine.log").read_text()[-2000:])
        yield Engine(children(outer.pid)[0], home)
    finally:
        _end(outer)


def answers(address: str) -> bool:
    """Whether an engine answers at that address. (Clients of HTTP leave a socket open where nobody listens.)"""
    with socket.socket(socket.AF_UNIX) as asking, suppress(OSError):
        asking.settimeout(5)
        asking.connect(address.removeprefix("unix://"))
        asking.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in asking.recv(100)
    return False


def restart(supervisor: int, address: str) -> None:
    """End an engine in good order, with all of its containers, and return when its successor answers."""
    (before,) = [child for child in children(supervisor) if Path(f"/proc/{child}/comm").read_text() == "dockerd\n"]
    os.kill(before, signal.SIGTERM)
    assert wait_until(lambda: before not in children(supervisor) and answers(address), 60)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(outer: subprocess.Popen[bytes]) -> None:
    try:
        os.kill(children(outer.pid)[0], signal.SIGTERM)
        outer.wait(20)
    except (OSError, IndexError, subprocess.TimeoutExpired):
        outer.kill()
    outer.wait()
