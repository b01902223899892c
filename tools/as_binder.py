#!/usr/bin/env python3
"""Do what Binder does, without Docker: build from `binder/` in a clean folder, as a user without root.

    python tools/as_binder.py /tmp/somewhere            build only
    python tools/as_binder.py /tmp/somewhere --launch   and start JupyterLab below a hub's prefix until Ctrl-C

The steps are repo2docker's: of the repository only `binder/` is read where it exists, pip runs in the folder of
`environment.yml`, `postBuild` in the repository's. What differs: a venv of this Python stands for conda's environment.
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
"""Binder serves each launch below a path of its own."""

SUITABLE = "import ensurepip, sys; assert sys.version_info >= (3, 11)"

CGROUP = Path("/sys/fs/cgroup/memory")
"""Version 1's controller of memory; where it can't be used, memory is watched from outside and not bounded."""


@dataclass(frozen=True)
class Account:
    """Whoever the build runs as: another user where this one is root, else this one."""

    uid: int
    gid: int

    @classmethod
    def without_root(cls) -> Account:
        """Return the account ``nobody``, or one's own where one is not root."""
        if os.geteuid() != 0:
            return cls(os.getuid(), os.getgid())
        found = pwd.getpwnam("nobody")
        return cls(found.pw_uid, found.pw_gid)


@dataclass(frozen=True)
class Image:
    """What was built.

    Attributes
    ----------
    home : Path
        The user's home; the repository is a folder in it.
    account : Account
        Who owns it.
    """

    home: Path
    account: Account

    @property
    def repository(self) -> Path:
        """Where the repository is."""
        return self.home / "repo"

    @property
    def python(self) -> Path:
        """The environment's Python."""
        return self.home / "env" / "bin" / "python"

    @property
    def environment(self) -> dict[str, str]:
        """What a process in the image finds in its environment: nothing of ours but certificates and mirrors."""
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
        """Run something in the image, as its user; raises CalledProcessError where it fails."""
        with_whom = identity(self.account)
        subprocess.run(command, check=True, cwd=cwd or self.repository, env=self.environment, **with_whom, **options)

    def begin(
        self, command: Sequence[str | Path], cgroup: Path | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start something in the image, as its user, in a session and, if given, a cgroup of its own."""
        account = self.account

        def become() -> None:
            if cgroup:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(account.gid)
                os.setuid(account.uid)

        return subprocess.Popen(
            command, cwd=self.repository, env=self.environment, start_new_session=True, preexec_fn=become, **options
        )

    def processes(self) -> list[psutil.Process]:
        """Return every living process that was started in the image, by its HOME."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.home) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def identity(account: Account) -> dict[str, Any]:
    """Return the arguments that let `subprocess` run something as this account."""
    if os.geteuid() != 0:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def build(home: Path, *, quick: bool = False) -> Image:
    """Build what Binder would: a clean copy of what is committed, the environment, `postBuild`.

    Parameters
    ----------
    home : Path
        A folder that does not exist yet; others must be able to reach its parent.
    quick : bool
        Whether uv stands for pip, and programs that this user's cache has are copied instead of fetched again.

    Raises
    ------
    subprocess.CalledProcessError
        A step failed.
    """
    image = Image(home, Account.without_root())
    home.mkdir(mode=0o755)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, image.repository], check=True)
    if quick:
        copy_programs(home)
    own(home, image.account)
    binder = image.repository / "binder"
    image.run([reachable_python(image), "-m", "venv", home / "env"], cwd=home)
    pip: list[str | Path] = [image.python, "-m", "pip", "install"]
    if quick:
        image.run([*pip, "--quiet", f"uv=={version('uv')}"])
        pip = [image.python.parent / "uv", "pip", "install", "--python", image.python]
    image.run([*pip, "--quiet", *pip_words(binder / "environment.yml")], cwd=binder)
    image.run(["./binder/postBuild"])
    return image


def reachable_python(image: Image) -> Path:
    """Return a Python of this project's kind that the image's user can start: this one, else the system's, else a copy.

    Root's own Python often lies where nobody else may look.
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


def pip_words(environment: Path) -> list[str]:
    """Return what conda would hand to pip, as words of a command line."""
    said = yaml.safe_load(environment.read_text(encoding="utf-8"))
    (section,) = [entry["pip"] for entry in said["dependencies"] if isinstance(entry, dict)]
    return [word for line in section for word in line.split()]


def copy_programs(home: Path) -> None:
    """Copy downloaded programs, so that trying it again takes no network; the lab checks them as it always does."""
    here = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "saga-lab"
    if here.is_dir():
        unwanted = shutil.ignore_patterns("*istiod*", "standins", ".*")
        shutil.copytree(here, home / ".cache" / "saga-lab", symlinks=True, ignore=unwanted)


def own(folder: Path, account: Account) -> None:
    """Hand a folder and all in it to an account."""
    if os.geteuid() != 0:
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def end(image: Image, started: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """End what was started, and whatever of the image still runs."""
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
    """Start JupyterLab as Binder does, below its prefix; return it and the address with its token."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    options = ["--ip=127.0.0.1", f"--port={port}", "--port-retries=0", "--no-browser"]
    options += [f"--ServerApp.base_url={PREFIX}", f"--IdentityProvider.token={token}"]
    command: list[str | Path] = [image.python.parent / "jupyter", "lab", *options]
    started = image.begin(command, cgroup, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
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
        end(image, started)


if __name__ == "__main__":
    sys.exit(main())
