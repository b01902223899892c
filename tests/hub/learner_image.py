"""Build the learner's image without a registry: `python -m tests.hub.learner_image` prints the path of an archive.

The image has the stand-in for Python's official image as its base, and is built from `deploy/hub/Containerfile` by a
private Docker engine without a network. So its packages and programs come from a second base with wheels and with this
user's cache, which is used for the first stage only.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import docker
from docker.errors import BuildError
from filelock import FileLock
from packaging.requirements import Requirement

from labstack.config.paths import LabPaths
from tests.containers.engine import CACHE, Engine, engine, programs
from tests.containers.standins import BASE, base_system

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "lab-standin/saga-lab-learner:0.1.0"
PAUSE = "lab-standin/pause:1"
"""The image of each pod's first process, by the name that the nodes of `tests.cluster` expect."""
RUNTIME, BUILDER = "lab-standin/python-slim:3.11", "lab-standin/python-builder:3.11"
PYTHON_VERSION = "3.11.2"
"""The Python of Debian 12, the base of the stand-ins."""
LOCKS = ("requirements.lock", "deploy/hub/requirements.lock", "requirements-build.lock")
CONTEXT = (
    *("deploy/hub/Containerfile", "deploy/hub/requirements.lock", "deploy/hub/start"),
    *("benchmarks", "datasets", "docs", "lab-stack", "labkit", "labservices", "notebooks", "tools"),
    *("LICENSE", "README.md", "pyproject.toml", "requirements.lock", "requirements-build.lock", "start.py"),
)
"""The files of the build, as in `deploy/hub/Containerfile.dockerignore`, which only BuildKit reads."""
PYTHON = """
FROM {base}
RUN rm -f /usr/lib/python3.11/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python
"""
HOLD = """
FROM {base}
USER 65535:65535
ENTRYPOINT ["/usr/bin/tini", "--", "sleep", "infinity"]
"""
OFFLINE = """
FROM {base}
COPY wheels /wheels
COPY cache /opt/saga-lab/cache/saga-lab
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
"""
PROGRAMS = ("prometheus", "alertmanager")
"""The optional programs that the image gets, if this user has installed them."""


def build(running: Engine, cache: Path) -> None:
    """Build the image in an engine.

    Parameters
    ----------
    running : Engine
        The engine.
    cache : Path
        The folder of downloads, which is filled if necessary.
    """
    client = docker.DockerClient(base_url=running.address, timeout=1800)
    tags = {tag for image in client.images.list() for tag in image.tags}
    if BASE not in tags:
        repository, tag = BASE.split(":")
        client.api.import_image(str(base_system(cache)), repository=repository, tag=tag)
    with tempfile.TemporaryDirectory(dir=running.home) as folder:
        context = Path(folder)
        (context / "Dockerfile").write_text(PYTHON.format(base=BASE))
        _build(client, context, RUNTIME)
        (context / "Dockerfile").write_text(HOLD.format(base=BASE))
        _build(client, context, PAUSE)
        (context / "Dockerfile").write_text(OFFLINE.format(base=RUNTIME))
        copy_downloads(context, cache)
        _build(client, context, BUILDER)
    with tempfile.TemporaryDirectory(dir=running.home) as folder:
        for name in CONTEXT:
            source, target = ROOT / name, Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
            else:
                shutil.copy(source, target)
        _build(client, Path(folder), IMAGE, "deploy/hub/Containerfile", {"BASE": RUNTIME, "BUILDER": BUILDER})
    client.close()


def copy_downloads(context: Path, cache: Path) -> None:
    """Copy the wheels of all locks, the jars and the optional programs into the context of the first stage's base."""
    wheels = cache / "learner-wheels"
    for lock in LOCKS:
        needed = context / "needed.txt"
        needed.write_text(pins_for((ROOT / lock).read_text(encoding="utf-8"), PYTHON_VERSION))
        options = ["--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        options += ["--python-version", PYTHON_VERSION, "--dest", str(wheels), "--requirement", str(needed)]
        subprocess.run([sys.executable, "-m", "pip", "download", *options], check=True)
    shutil.copytree(wheels, context / "wheels")
    downloads = LabPaths.of_user().cache
    shutil.copytree(downloads / "jars", context / "cache" / "jars")
    for name in PROGRAMS:
        if (downloads / "programs" / name).is_dir():
            without_build = shutil.ignore_patterns("build", "lock")
            target = context / "cache" / "programs" / name
            shutil.copytree(downloads / "programs" / name, target, symlinks=True, ignore=without_build)


def pins_for(lock: str, python: str) -> str:
    """Return the pins of a lock that apply to a version of Python on this system, without their markers.

    pip would compare the markers with the Python that runs it, even if it downloads for another one.
    """
    pins = []
    for block in re.split(r"\n(?=[a-z0-9])", lock)[1:]:
        first, _, rest = block.partition("\n")
        requirement = Requirement(first.removesuffix("\\").strip())
        environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            hashes = re.findall(r"--hash=\S+", rest)
            pins.append(" ".join([f"{requirement.name}{requirement.specifier}", *hashes]))
    return "\n".join(pins)


def _build(
    client: docker.DockerClient,
    context: Path,
    image: str,
    file: str = "Dockerfile",
    arguments: dict[str, str] | None = None,
) -> None:
    try:
        client.images.build(
            path=str(context), dockerfile=file, tag=image, buildargs=arguments, rm=True, network_mode="none"
        )
    except BuildError as error:
        output = "".join(line.get("stream", "") for line in error.build_log)
        raise RuntimeError(f"{image} can't be built:\n{output[-6000:]}") from error


def save(running: Engine, target: Path) -> None:
    """Write the images to a file for `ctr images import`."""
    growing = target.with_suffix(".growing")
    client = programs(CACHE) / "usr/bin/docker"
    subprocess.run([client, "--host", running.address, "save", "--output", growing, IMAGE, PAUSE], check=True)
    growing.rename(target)


def digest() -> str:
    """Return a digest of everything that the image contains."""
    found = hashlib.sha256()
    for name in CONTEXT:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(file.parts):
                found.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return found.hexdigest()[:8]


def archive() -> Path:
    """Return the archive with the image and with `PAUSE`; build it first if it is missing or outdated.

    Raises
    ------
    EngineUnavailable
        No engine can be run here.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    target = CACHE / f"learner-{digest()}.tar"
    with FileLock(CACHE / "learner.lock"), tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        if not target.exists():
            # The engine's images stay in the cache, so that a change of the course builds few layers.
            with engine(CACHE, Path(home), data=CACHE / "learner-images") as running:
                build(running, CACHE)
                for older in CACHE.glob("learner-????????.tar"):
                    older.unlink()
                save(running, target)
    return target


if __name__ == "__main__":
    print(archive())
