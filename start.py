#!/usr/bin/env python3
"""Set up everything on a machine that has only Python 3.11 or newer, and run the lab or its tests.

    python3 start.py           install, start the lab, place example orders, open JupyterLab on your copy of the course
    python3 start.py --show    the same without JupyterLab, then stop the lab (the default without a terminal)
    python3 start.py test      install, and run the tests (`test SUITE`, `test --help`)
    python3 start.py env       install only (`env --dev` also installs the packages that the tests need)

This script runs before anything is installed, so it uses only the standard library. It creates the environment in
`.venv`, next to this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # with PYTHONSAFEPATH, Python leaves it out

from tools.installation import (  # noqa: E402
    BIN,
    DEV_LOCK,
    LOCK,
    OFFLINE,
    VENV,
    FolderRefused,
    install,
)
from tools.pip_settings import in_use, without_python_settings  # noqa: E402

COURSE = Path(os.environ.get("SAGA_LAB_COURSE") or ROOT / "my-course").absolute()
"""The learner's copy of the course: the notebooks without outputs. Later starts keep the learner's changes."""
FIRST_NOTEBOOK = "notebooks/00-start-here.ipynb"

DEFAULT_SETTINGS = {"@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True}}
"""A notebook that is opened later, with a new kernel, then shows the last picture of each live view."""

SERVER_CONFIG = """\
import os
import shutil

from jupyter_server.serverapp import ServerApp

ServerApp.no_browser_open_file = True  # no option: print the address, and no file that leads to it
# No login shell, because /etc/profile of some systems resets PATH, and the terminals would not find `lab`.
c.ServerApp.terminado_settings = {"shell_command": [os.environ.get("SHELL") or shutil.which("bash") or "sh"]}
"""
OF_JUPYTER = ("JUPYTER_", "JUPYTERLAB_", "IPYTHON")
"""Prefixes of the variables that configure Jupyter and IPython; JupyterHub's are others."""

MAP_PAGE = "/saga-map/"
"""Path of the live system map in JupyterLab."""
WORKSPACE = "default-37a8.jupyterlab-workspace"
"""File of JupyterLab's default workspace."""
NEWS = "@jupyterlab/apputils-extension:announcements"
"""The extension that asks every new user whether to show JupyterLab news."""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="lab", choices=["lab", "test", "env"])
    parser.add_argument(
        "--show", action="store_true", help="stop the lab after the example orders, and do not open JupyterLab"
    )
    parser.add_argument("--no-browser", action="store_true", help="print JupyterLab's address, and open no browser")
    parser.add_argument(
        "--no-observability", action="store_true", help="start the lab without metrics, alerts, traces and dashboards"
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
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path may have any letters
    if arguments.no_observability:
        os.environ["LAB_OBSERVABILITY"] = "off"
    try:
        install(DEV_LOCK if arguments.dev or arguments.what == "test" else LOCK)
    except FolderRefused as error:
        print(f"{error}\nMove or rename the folder, then run the same command again.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The environment can't be written: {error}.", file=sys.stderr)
        print("Make the folder writable, or set SAGA_LAB_VENV to a folder that you can write.", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        report_failed(error)
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


def report_failed(error: subprocess.CalledProcessError) -> None:
    """Print which installer failed, and the next step. The installer has printed the cause."""
    command = " ".join(map(str, error.cmd))
    print(
        f"{error.stderr or ''}\nThe installation failed: {command} exited with status {error.returncode}.",
        file=sys.stderr,
    )
    settings = ", ".join(["pip's configuration files", *in_use(os.environ)])
    print(
        f"The lines above name the cause. If a package can't be downloaded, check the network and {settings}. Then run "
        "the same command again. Installed packages are kept.",
        file=sys.stderr,
    )


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
    if status := run([lab, "notebooks", "--quiet", COURSE]):
        print("SAGA_LAB_COURSE names another folder for your copy of the course.", file=sys.stderr)
        return status
    first = COURSE / FIRST_NOTEBOOK
    print(f"\nOpening JupyterLab on {first}. Ctrl-C stops JupyterLab, `{lab} down` stops the lab.\n")
    return open_jupyterlab(browser=browser)


def run(command: list[str | Path], env: dict[str, str] | None = None) -> int:
    """Run a program, and return its exit status. On Ctrl-C, wait until the program has shut down."""
    running = subprocess.Popen(command, cwd=ROOT, env=env or environment())
    while True:
        try:
            return running.wait()
        except KeyboardInterrupt:
            pass


def open_jupyterlab(*, browser: bool) -> int:
    """Run JupyterLab on the learner's course with the first notebook open, and return its exit status."""
    options = [
        f"--ServerApp.root_dir={COURSE}",  # with the pictures, documents and code that the notebooks link to
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
        print(
            "You are root, so JupyterLab runs as root. It listens on 127.0.0.1 only and requires its token.\n",
            flush=True,
        )
        options.append("--allow-root")
    # Neither read nor change the user's settings, kernels and IPython profile for other JupyterLab installations.
    settings = VENV / "etc" / "saga-lab-jupyter"
    (settings / "labconfig").mkdir(parents=True, exist_ok=True)
    (settings / "labconfig" / "page_config.json").write_text(json.dumps({"disabledExtensions": {NEWS: True}}))
    (settings / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(DEFAULT_SETTINGS))
    (settings / "jupyter_server_config.py").write_text(SERVER_CONFIG)
    workspace = settings / "lab" / "workspaces" / WORKSPACE
    if not workspace.exists():  # afterwards, the user's own layout stays
        workspace.parent.mkdir(parents=True, exist_ok=True)
        workspace.write_text(json.dumps(first_layout()))
    env = {name: value for name, value in environment().items() if not name.startswith(OF_JUPYTER)}
    folders = {
        "JUPYTER_CONFIG_DIR": settings,
        "JUPYTER_DATA_DIR": settings / "data",
        "IPYTHONDIR": settings / "ipython",
    }
    own = {"JUPYTER_PREFER_ENV_PATH": "1", **{name: str(folder) for name, folder in folders.items()}}
    return run([BIN / "jupyter", "lab", *options], {**env, **own})


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
    # Python's own variables belong to other programs. Without bytecode (PYTHONDONTWRITEBYTECODE), each of the lab's
    # Python processes would spend two seconds compiling the same files.
    own = without_python_settings(os.environ)
    return {**own, **mode, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{own.get('PATH', '')}"}


if __name__ == "__main__":
    sys.exit(main())
