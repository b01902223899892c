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
from pathlib import Path

from labstack import Lab
from labstack.config.paths import LabPaths
from labstack.errors import LabError
from labstack.lab import access_of
from labstack.lifecycle.starting import prefetch
from labstack.progress import Progress
from tools.installation import BUILD_LOCK, LOCK
from tools.notices import notices
from tools.pip_settings import installer_environment

ROOT = Path(__file__).resolve().parents[1]
TAKEN = ("jars", "programs")
"""Folders of the cache to include. Each machine generates the rest, including passwords."""

WITHOUT = (".*", "istiod", "jaeger", "grafana")
"""Optional programs to leave out: those with a long build, and Grafana, whose licence requires more than notices."""

NOT_COPIED = (".git", ".venv", "__pycache__", "*_cache", ".ipynb_checkpoints", "*.egg-info", ".hypothesis")
"""Patterns of generated files and folders, for a copy of the repository without git."""
NOT_COPIED_FROM_ROOT = {"build", "dist", "my-course"}
"""Folders with generated files and with this user's course, at the top of the repository only."""


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to; must not exist")
    folder = parser.parse_args().folder.resolve()
    if folder.exists():
        parser.error(f"{folder} exists; a bundle is made in a clean folder")
    try:
        make(folder)
    except (subprocess.CalledProcessError, OSError, shutil.Error, LabError) as error:
        print(f"The bundle can't be made: {error}", file=sys.stderr)
        print(f"Remove {folder}, correct the cause, and run the same command again.", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{size / 1e9:.1f} GB for Python {sys.version_info[0]}.{sys.version_info[1]} on {sys.platform} in {folder}")
    print("On a learner's machine: copy the folder, then `python3 saga-lab/start.py` in it.")
    return 0


def make(folder: Path) -> None:
    """Write the bundle into a new folder."""
    (folder / "offline").mkdir(parents=True)
    copy_repository(folder / "saga-lab")
    download(folder / "offline" / "wheels")
    prefetch(access_of(Lab(mode="local")), Progress())
    for part in TAKEN:
        if (source := LabPaths.of_user().cache / part).is_dir():
            ignored = shutil.ignore_patterns(*WITHOUT)
            shutil.copytree(source, folder / "offline" / "programs" / part, symlinks=True, ignore=ignored)
    (folder / "offline" / "NOTICES.txt").write_text(notices(folder / "offline"), encoding="utf-8")
    write_sums(folder / "offline")


def copy_repository(target: Path) -> None:
    """Clone the repository, or copy it if it is not a clone, such as GitHub's ZIP."""
    clone: list[str | Path] = ["git", "clone", "--quiet", "--no-hardlinks", ROOT, target]
    if (ROOT / ".git").exists() and shutil.which("git") and subprocess.run(clone).returncode == 0:
        return
    print("No clone of git here, so the files are copied as they are.", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    patterns = shutil.ignore_patterns(*NOT_COPIED)

    def ignored(folder: str, names: list[str]) -> set[str]:
        bundle = {name for name in names if Path(folder, name) == target.parent}
        top = NOT_COPIED_FROM_ROOT if Path(folder) == ROOT else set()
        return patterns(folder, names) | bundle | top

    shutil.copytree(ROOT, target, ignore=ignored)


def download(wheels: Path) -> None:
    """Download every locked package, those that the project's build needs included, verified by its hash."""
    # The locks are complete: they include all dependencies and extras.
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "--dest",
        wheels,
    ]
    for lock in (LOCK, BUILD_LOCK):
        subprocess.run([*pip, "-r", lock], check=True, env=installer_environment(Path(sys.executable)))


def write_sums(folder: Path) -> None:
    """Write the SHA-256 of every file, for `sha256sum --check SHA256SUMS` after a copy."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n")
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
