"""Write the locks from `pyproject.toml`, and the services' lock:

    python tools/lock.py [--upgrade]

`requirements-dev.lock` lists every package that the lab and its development need, with hashes, for every supported
system and Python version. `requirements.lock` has the subset for learners, in the same versions. A locked version stays
unless `pyproject.toml` requires another one or `--upgrade` is set. `constraints.txt` has the same versions without
hashes: conda's pip installs the project itself in the same run, and pip rejects a folder if any requirement has a hash.
`requirements-build.lock` has what an editable install of the project needs, also in the same versions. The locks of the
services' image, of the learner's image for a hub, and of the hub that the tests run have these versions, too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
BUILD_LOCK = ROOT / "requirements-build.lock"
CONSTRAINTS = ROOT / "constraints.txt"
SERVICES = ROOT / "labservices" / "requirements.in"
HUB = (ROOT / "deploy" / "hub" / "requirements.in", ROOT / "tests" / "hub" / "requirements.in")
OLDEST_PYTHON = "3.11"
EDITABLE = "editables"
"""What hatchling also needs for an editable install (its documentation, "Environment", "Dev mode")."""


def command(source: list[str], output: Path, *extra: str) -> list[str]:
    """Return the command that writes a lock."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    return [
        *(uv, "pip", "compile", *source, "--output-file", str(output.relative_to(ROOT))),
        *("--universal", "--generate-hashes", "--python-version", OLDEST_PYTHON),
        # Keep this machine's package index out of the lock.
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-index-annotation"),
        *("--custom-compile-command", "python tools/lock.py", "--quiet"),
        *extra,
    ]


def constraints(lock: str) -> str:
    """Return the lock's versions without its hashes."""
    pins = [line.removesuffix("\\").strip() for line in lock.splitlines() if line[:1].isalnum()]
    return "\n".join(["# The versions of requirements-dev.lock, written by tools/lock.py.", *pins]) + "\n"


def build_requirements() -> list[str]:
    """Return the requirements of an editable install of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [*project["build-system"]["requires"], EDITABLE]


if __name__ == "__main__":
    subprocess.run(command(["pyproject.toml", "--extra", "dev"], DEV_LOCK, *sys.argv[1:]), cwd=ROOT, check=True)
    CONSTRAINTS.write_text(constraints(DEV_LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    others = [(str(source.relative_to(ROOT)), source.with_suffix(".lock")) for source in (SERVICES, *HUB)]
    for source, lock in [("pyproject.toml", LOCK), *others]:
        subprocess.run(command([source, "--constraint", CONSTRAINTS.name], lock), cwd=ROOT, check=True)
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(build_requirements()))
        file.flush()
        constrained = (file.name, "--constraint", CONSTRAINTS.name, "--no-annotate")
        subprocess.run(command([*constrained], BUILD_LOCK), cwd=ROOT, check=True)
