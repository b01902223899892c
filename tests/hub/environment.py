"""The packages of a hub, in a separate environment: JupyterHub and KubeSpawner from PyPI, and the proxy from npm.

Neither learners nor developers install them. They are downloaded into the cache when a test first needs them, in the
versions and with the hashes of `tests/hub/requirements.lock` and `tests/hub/package-lock.json`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

from labstack.config.paths import LabPaths

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROXY = ("package.json", "package-lock.json")


class Unavailable(Exception):
    """A package can't be had on this machine; the message states the reason."""


@cache
def python() -> Path:
    """Return the Python that has JupyterHub and KubeSpawner, and also this environment's packages.

    The environment's own packages come first. So a server that it starts has the lab, and kernels that import labkit.

    Raises
    ------
    Unavailable
        The packages could not be downloaded.
    """
    lock = HERE / "requirements.lock"
    return _folder("hub", lock.read_bytes() + sys.prefix.encode(), _make_environment) / "bin" / "python"


@cache
def proxy() -> Path:
    """Return the program `configurable-http-proxy`.

    Raises
    ------
    Unavailable
        There is no Node.js, or the packages could not be downloaded.
    """
    missing = [name for name in ("node", "npm") if not shutil.which(name)]
    if missing:
        raise Unavailable(f"the hub's proxy needs {' and '.join(missing)}")
    content = b"".join((HERE / name).read_bytes() for name in PROXY)
    return _folder("hub-proxy", content, _make_proxy) / "node_modules" / ".bin" / "configurable-http-proxy"


def _folder(name: str, inputs: bytes, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache for these inputs; make it first if it does not exist."""
    target = LabPaths.of_user().cache / name / hashlib.sha256(inputs).hexdigest()[:12]
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            # An environment contains its path, so it is made in place.
            try:
                make(target)
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise
    return target


def _make_environment(folder: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    _run([str(uv), "venv", "--quiet", "--python", sys.executable, str(folder)])
    options = ["--quiet", "--python", str(folder / "bin" / "python"), "--require-hashes", "--no-deps"]
    _run([str(uv), "pip", "install", *options, "--requirement", str(HERE / "requirements.lock")])
    here = sysconfig.get_path("purelib")
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (site / "saga-lab.pth").write_text(f"import site; site.addsitedir({here!r})\n")


def _make_proxy(folder: Path) -> None:
    folder.mkdir()
    for name in PROXY:
        shutil.copy(HERE / name, folder)
    _run(["npm", "ci", "--no-audit", "--no-fund", "--silent", "--ignore-scripts", "--prefix", str(folder)])


def _run(command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, capture_output=True, text=True, cwd=elsewhere, env=os.environ)
    if done.returncode:
        raise Unavailable(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")


if __name__ == "__main__":
    print(python(), proxy())
