"""Write the locks from `pyproject.toml`, and the services' own lock:

    python tools/lock.py [--upgrade]

`requirements-dev.lock` names every package that the lab and its development need, for every system and Python that it
supports, with hashes. `requirements.lock` has what a learner needs of it, in the same versions. A version that is
locked already stays, unless `pyproject.toml` asks for another or `--upgrade` is given. `constraints.txt` has the same
versions without the hashes: conda's pip installs the project itself in the same run, and pip refuses a folder once
anything has a hash.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"
CONSTRAINTS = ROOT / "constraints.txt"
SERVICES = ROOT / "labservices" / "requirements.in"
OLDEST_PYTHON = "3.11"


def command(source: list[str], output: Path, *extra: str) -> list[str]:
    """Return the command that writes a lock."""
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    return [
        *(uv, "pip", "compile", *source, "--output-file", str(output.relative_to(ROOT))),
        *("--universal", "--generate-hashes", "--python-version", OLDEST_PYTHON),
        # Where this machine gets its packages from is nobody else's business.
        *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-index-annotation"),
        *("--custom-compile-command", "python tools/lock.py", "--quiet"),
        *extra,
    ]


def constraints(lock: str) -> str:
    """Return the lock's versions without its hashes."""
    pins = [line.removesuffix("\\").strip() for line in lock.splitlines() if line[:1].isalnum()]
    return "\n".join(["# The versions of requirements-dev.lock, written by tools/lock.py.", *pins]) + "\n"


if __name__ == "__main__":
    subprocess.run(command(["pyproject.toml", "--extra", "dev"], DEV_LOCK, *sys.argv[1:]), cwd=ROOT, check=True)
    CONSTRAINTS.write_text(constraints(DEV_LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    for source, lock in (("pyproject.toml", LOCK), (str(SERVICES.relative_to(ROOT)), SERVICES.with_suffix(".lock"))):
        subprocess.run(command([source, "--constraint", CONSTRAINTS.name], lock), cwd=ROOT, check=True)
