"""Each way to install, in a fresh environment outside the checkout: the lab starts and an order completes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
import yaml

ROOT = Path(__file__).parents[2]
InstallMethod = Callable[[Path, Path], list[list[str]]]


def by_pip(python: Path, checkout: Path) -> list[list[str]]:
    return [[str(python), "-m", "pip", "install", "--quiet", str(checkout)]]


def by_pip_in_place(python: Path, checkout: Path) -> list[list[str]]:
    return [[str(python), "-m", "pip", "install", "--quiet", "-e", str(checkout)]]


def by_wheel(python: Path, checkout: Path) -> list[list[str]]:
    wheels = checkout.parent / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    install = f'exec "{python}" -m pip install --quiet "{wheels}"/saga_lab-*.whl'
    return [["sh", "-c", f'cd "{checkout}" && exec "$@"', "sh", *build], ["sh", "-c", install]]


def by_uv(python: Path, checkout: Path) -> list[list[str]]:
    return [["uv", "pip", "install", "--quiet", "--python", str(python), str(checkout)]]


def by_environment_yml(python: Path, checkout: Path) -> list[list[str]]:
    conda = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (packages,) = [part["pip"] for part in conda if isinstance(part, dict)]
    words = [word for package in packages for word in shlex.split(package)]
    return [["sh", "-c", f'cd "{checkout}" && exec "{python}" -m pip install --quiet "$@"', "sh", *words]]


METHODS = [by_pip, by_pip_in_place, by_wheel, by_uv, by_environment_yml]
IN_PLACE = (by_pip_in_place, by_environment_yml)
"""These leave the code in the checkout."""


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_the_lab_works_after_the_installation(method: InstallMethod, tmp_path: Path) -> None:
    """After the installation `lab up` and `lab demo` work, in a folder without any file of the repository."""
    checkout, home, elsewhere = tmp_path / "checkout", tmp_path / "home", tmp_path / "elsewhere"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    for folder in (home, elsewhere):
        folder.mkdir()
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    own_prefixes = ("PYTHON", "PYTEST", "LAB_", "SAGA_", "VIRTUAL_ENV")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(own_prefixes)}
    environment = {
        **bare,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(platformdirs.user_cache_path()),  # downloading the jars is not tested here
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "LAB_MODE": "local",
        "LAB_OBSERVABILITY": "installed",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    for command in method(programs / "python", checkout):
        run(*command)
    minutes = (time.monotonic() - began) / 60
    size = sum(file.stat().st_size for file in (tmp_path / "venv").rglob("*") if file.is_file()) / 1e6
    print(f"{method.__name__}: {minutes:.1f} min, {size:.0f} MB")
    if method not in IN_PLACE:
        shutil.rmtree(checkout)
    lab = str(programs / "lab")
    try:
        run(lab, "up")
        assert json.loads(run(lab, "demo", "--json"))["status"] == "COMPLETED"
        run(lab, "notebooks", str(elsewhere / "course"))
        assert list(elsewhere.rglob("00-start-here.ipynb"))
    finally:
        run(lab, "down", "--purge")


@pytest.mark.long
@pytest.mark.parametrize("name", ["lab[dev]", "C# labs", "100% done", "a,b", "zoë's lab {x}"])
def test_the_folder_of_the_checkout_may_have_any_accepted_name(name: str, tmp_path: Path) -> None:
    """`start.py` installs into a folder with brackets, signs and spaces in its name, and `lab` runs there."""
    checkout = tmp_path / name
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(platformdirs.user_cache_path())}
    environment.pop("SAGA_LAB_VENV", None)
    lab = str(checkout / ".venv" / "bin" / "lab")
    for command in ([sys.executable, "start.py", "env"], [lab, "status", "--json"]):
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["state"] == "stopped"
