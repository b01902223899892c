#!/usr/bin/env python3
"""Make a bundle for a room without a network: the repository, its Python packages, and the programs, on a USB stick.

    python tools/make_bundle.py /media/stick/saga-lab-bundle

Learners copy the folder to their machine (of the same system and processor as this one, with the same Python) and run
`python3 saga-lab/start.py` in it: what lies in `offline/` beside the repository is taken instead of the network.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from labstack import Lab
from labstack.config.paths import LabPaths
from tools.notices import notices

ROOT = Path(__file__).resolve().parents[1]
TAKEN = ("jars", "programs")
"""Folders of the cache to include. Each machine generates the rest, including passwords."""

WITHOUT = (".*", "istiod", "jaeger", "grafana")
"""Optional programs to leave out: those with a long build, and Grafana, whose licence requires more than notices."""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to; must not exist")
    folder = parser.parse_args().folder.resolve()
    if folder.exists():
        parser.error(f"{folder} exists; a bundle is made in a clean folder")
    (folder / "offline").mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder / "saga-lab"], check=True)
    download(folder / "offline" / "wheels")
    Lab(mode="local").prefetch()
    for part in TAKEN:
        if (source := LabPaths.of_user().cache / part).is_dir():
            ignored = shutil.ignore_patterns(*WITHOUT)
            shutil.copytree(source, folder / "offline" / "programs" / part, symlinks=True, ignore=ignored)
    (folder / "offline" / "NOTICES.txt").write_text(notices(folder / "offline"), encoding="utf-8")
    write_sums(folder / "offline")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{size / 1e9:.1f} GB for Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform} in {folder}")
    print("On a learner's machine: copy the folder, then `python3 saga-lab/start.py` in it.")
    return 0


def download(wheels: Path) -> None:
    """Download every locked package, verified by its hash, and the project's build requirements."""
    pip: list[str | Path] = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", wheels]
    # The lock is complete: it includes all dependencies and extras.
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", ROOT / "requirements.lock"], check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    # An editable install also needs `editables` (hatchling's documentation, "Environment", "Dev mode").
    subprocess.run([*pip, *project["build-system"]["requires"], "editables"], check=True)


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file, for `sha256sum --check SHA256SUMS` after a copy."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
