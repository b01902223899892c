#!/usr/bin/env python3
"""Do what Binder does, without Docker: build from `binder/` in a clean folder, as a user without root.

    python tools/as_binder.py /tmp/somewhere            build only
    python tools/as_binder.py /tmp/somewhere --launch   and start JupyterLab below a hub's prefix until Ctrl-C

The steps are repo2docker's: of the repository only `binder/` is read where it exists, pip runs in the folder of
`environment.yml`, `postBuild` in the repository's, and `start` runs the server. What differs: a venv of this Python
stands for conda's environment.
Source: repo2docker's documentation, "Configuration Files" and "Usage".
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
PREFIX = "/user/ada-saga-lab-x1y2z3/"
"""Binder serves each launch below a separate path."""

SUITABLE = "import ensurepip, sys; assert sys.version_info >= (3, 11)"

CGROUP = Path("/sys/fs/cgroup/memory")
"""The memory controller of cgroups v1. Without it, memory is measured from outside and not limited."""


@dataclass(frozen=True)
class Account:
    """The account that runs the build: another user if the current one is root, else the current user."""

    uid: int
    gid: int

    @classmethod
    def without_root(cls) -> Account:
        """Return the account ``nobody`` if the current user is root, else the current account."""
        if os.geteuid() != 0:
            return cls(os.getuid(), os.getgid())
        found = pwd.getpwnam("nobody")
        return cls(found.pw_uid, found.pw_gid)


@dataclass(frozen=True)
class Image:
    """The result of a build.

    Attributes
    ----------
    home : Path
        The user's home folder, which contains the repository.
    account : Account
        Owner of the home folder.
    """

    home: Path
    account: Account

    @property
    def repository(self) -> Path:
        """Folder of the repository."""
        return self.home / "repo"

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.home / "env" / "bin" / "python"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a process in the image. It inherits little more than certificates, proxies and mirrors."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in ("LANG", "LC_ALL", "TZ", "SAGA_LAB_CHECK")
            or name.startswith(("PIP_", "SSL_", "OPENBLAS_"))
            or "proxy" in name.lower()
        }
        path = f"{self.python.parent}{os.pathsep}/usr/local/bin{os.pathsep}/usr/bin{os.pathsep}/bin"
        if (self.home / "python").exists():
            kept["LD_LIBRARY_PATH"] = str(self.home / "python" / "lib")
        return {**kept, "HOME": str(self.home), "USER": "jovyan", "PATH": path, "JUPYTERHUB_SERVICE_PREFIX": PREFIX}

    def run(self, command: Sequence[str | Path], cwd: Path | None = None, **options: Any) -> None:
        """Run a command in the image as its user. Raise CalledProcessError if it fails."""
        identity_options = identity(self.account)
        subprocess.run(
            command, check=True, cwd=cwd or self.repository, env=self.environment, **identity_options, **options
        )

    def start(
        self, command: Sequence[str | Path], cgroup: Path | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command in the image as its user, in a new session and, if given, in a cgroup."""
        account = self.account

        def set_identity() -> None:
            if cgroup:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(account.gid)
                os.setuid(account.uid)

        return subprocess.Popen(
            command,
            cwd=self.repository,
            env=self.environment,
            start_new_session=True,
            preexec_fn=set_identity,
            **options,
        )

    def processes(self) -> list[psutil.Process]:
        """Return every living process of the image, identified by its HOME."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def identity(account: Account) -> dict[str, Any]:
    """Return the arguments with which `subprocess` runs a command as this account."""
    if os.geteuid() != 0:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def build(home: Path, *, quick: bool = False) -> Image:
    """Build as Binder does: a clean copy of the committed files, the environment, and `postBuild`.

    Parameters
    ----------
    home : Path
        A folder that does not exist yet. Other users must be able to reach its parent.
    quick : bool
        Whether to use uv instead of pip, and to copy programs from this user's cache instead of downloading them.

    Raises
    ------
    subprocess.CalledProcessError
        If a step fails.
    """
    image = Image(home, Account.without_root())
    home.mkdir(mode=0o755)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, image.repository], check=True)
    if quick:
        copy_programs(home)
    change_owner(home, image.account)
    binder = image.repository / "binder"
    image.run([reachable_python(image), "-m", "venv", home / "env"], cwd=home)
    pip: list[str | Path] = [image.python, "-m", "pip", "install"]
    if quick:
        image.run([*pip, "--quiet", f"uv=={version('uv')}"])
        pip = [image.python.parent / "uv", "pip", "install", "--python", image.python]
    image.run([*pip, "--quiet", *pip_arguments(binder / "environment.yml")], cwd=binder)
    image.run(["./binder/postBuild"])
    return image


def reachable_python(image: Image) -> Path:
    """Return a suitable Python that the image's user can start: this one, else the system's, else a copy.

    Other users often can't reach root's Python.
    """
    for candidate in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        try:
            image.run([candidate, "-c", SUITABLE], cwd=Path("/"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return candidate
        except (subprocess.CalledProcessError, OSError):
            continue
    copy = image.home / "python"
    shutil.copytree(sys.base_prefix, copy, symlinks=True, ignore=shutil.ignore_patterns("site-packages", "test"))
    return copy / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"


def pip_arguments(environment: Path) -> list[str]:
    """Return the arguments that conda passes to pip."""
    content = yaml.safe_load(environment.read_text(encoding="utf-8"))
    (section,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    return [word for line in section for word in line.split()]


def copy_programs(home: Path) -> None:
    """Copy downloaded programs, so that another build needs no network. The lab verifies them as usual."""
    here = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "saga-lab"
    if here.is_dir():
        unwanted = shutil.ignore_patterns("*istiod*", "standins", ".*")
        shutil.copytree(here, home / ".cache" / "saga-lab", symlinks=True, ignore=unwanted)


def change_owner(folder: Path, account: Account) -> None:
    """Make an account the owner of a folder and its content."""
    if os.geteuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def stop_processes(image: Image, started: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Stop a started process and every other process of the image."""
    started.terminate()
    try:
        started.wait(seconds)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    left = image.processes()
    for process in left:
        process.terminate()
    for process in psutil.wait_procs(left, timeout=seconds)[1]:
        process.kill()


def jupyterlab(image: Image, cgroup: Path | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """Start JupyterLab below Binder's prefix, and return the process and the URL with its token."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    options = ["--ip=127.0.0.1", f"--port={port}", "--port-retries=0", "--no-browser"]
    options += [f"--ServerApp.base_url={PREFIX}", f"--IdentityProvider.token={token}"]
    start, jupyter = image.repository / "binder" / "start", image.python.parent / "jupyter"
    command: list[str | Path] = [start, jupyter, "lab", *options]
    started = image.start(command, cgroup, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return started, f"http://127.0.0.1:{port}{PREFIX}?token={token}"


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--launch", action="store_true", help="start JupyterLab when it is built")
    arguments = parser.parse_args()
    if arguments.folder.exists():
        parser.error(f"{arguments.folder} exists; a build begins in a clean folder")
    began = time.monotonic()
    image = build(arguments.folder.resolve())
    print(f"Built in {time.monotonic() - began:.0f} s.")
    if not arguments.launch:
        return 0
    started, address = jupyterlab(image)
    print(f"JupyterLab is at {address}\nCtrl-C ends it, and the lab that it has started.")
    try:
        return started.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        image.run([image.python.parent / "lab", "down"])
        stop_processes(image, started)


if __name__ == "__main__":
    sys.exit(main())
