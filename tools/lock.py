"""Write `requirements.lock` and `constraints.txt` from `pyproject.toml`, and the services' own lock from both:

    python tools/lock.py [--upgrade]

The lock names every package that the lab and its development need, for every system and Python that it supports, with
hashes. Versions that are locked already stay, unless `pyproject.toml` asks for others or `--upgrade` is given. The
constraints are the same versions without the hashes: conda's pip installs the project itself in the same run, and pip
refuses a folder once anything has a hash.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
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
    return "\n".join(["# The versions of requirements.lock, written by tools/lock.py.", *pins]) + "\n"


if __name__ == "__main__":
    subprocess.run(command(["pyproject.toml", "--extra", "dev"], LOCK, *sys.argv[1:]), cwd=ROOT, check=True)
    CONSTRAINTS.write_text(constraints(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
    services = [str(SERVICES.relative_to(ROOT)), "--constraint", CONSTRAINTS.name]
    subprocess.run(command(services, SERVICES.with_suffix(".lock")), cwd=ROOT, check=True)
