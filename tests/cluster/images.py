"""Archives of the images that a test cluster runs: the services' image, and stand-ins with the real programs inside.

An engine of its own builds them (`tests.containers`); the nodes load the archives, because they can't pull images.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

from labstack.backends.processes.components.envoy import find_envoy
from tests.containers.engine import CACHE, Engine, environment_with_programs
from tests.containers.engine import programs as engine_programs
from tests.containers.standins import (
    ROOT,
    base_system,
    build_image,
    engine_with_standins,
    image_folder,
    import_system,
    standins,
)

HERE = Path(__file__).parent / "images"
DEBIAN = "lab-standin/debian:13"
DEBIAN_PACKAGES = "tini,ca-certificates,iproute2,iptables,procps,postgresql-17,postgresql-client-17"
NO_MAIN_CLUSTER = (
    '--aptopt=APT::Install-Recommends "false"',
    '--essential-hook=mkdir -p "$1/etc/postgresql-common";'
    ' echo "create_main_cluster = false" >"$1/etc/postgresql-common/createcluster.conf"',
)
OWN = {
    "pause": "lab-standin/pause:1",
    "cnpg-postgresql": "lab-standin/cnpg-postgresql:17",
    "cloudnative-pg": "lab-standin/cloudnative-pg:1.28.0",
    "coredns": "lab-standin/coredns:1.13.1",
    "pilot": "lab-standin/pilot:1.29.1",
    "proxyv2": "lab-standin/proxyv2:1.29.1",
    "prometheus": "lab-standin/prometheus:3.5.0",
    "prometheus-operator": "lab-standin/prometheus-operator:0.85.0",
    "prometheus-config-reloader": "lab-standin/prometheus-config-reloader:0.85.0",
}
"""The stand-ins that only a cluster needs."""
SHARED = ("kafka", "connect", "jaeger")
"""The stand-ins that container mode uses, too."""
SERVICES = "saga-lab-services:0.1.0"
FILES = {
    "cloudnative-pg": ("bin/cnpg-manager",),
    "coredns": ("bin/coredns",),
    "pilot": ("bin/pilot-discovery",),
    "proxyv2": ("bin/pilot-agent", "charts/envoy_bootstrap.json"),
    "prometheus": ("bin/prometheus",),
    "prometheus-operator": ("bin/prometheus-operator",),
    "prometheus-config-reloader": ("bin/prometheus-config-reloader",),
}
"""The files that each image copies from the folder of the programs."""


def image(name: str) -> str:
    """Return the stand-in of that name.

    Examples
    --------
    >>> image("pause")
    'lab-standin/pause:1'
    """
    return OWN.get(name) or standins()[name]


def archives(folder: Path) -> list[Path]:
    """Return the archives of all images; build those that are missing or outdated.

    Parameters
    ----------
    folder : Path
        Folder of the programs; see `tests.cluster.programs.get`.

    Raises
    ------
    EngineUnavailable
        No engine can be run here.
    """
    system, services = _archive("system", folder.name, image_folder(CACHE).name), _archive("services", _source())
    if not (system.exists() and services.exists()):
        with _engine() as engine:
            client = docker.DockerClient(base_url=engine.address, timeout=600)
            if not services.exists():
                _build_services(client)
                _save(engine, services, [SERVICES])
            if not system.exists():
                _build_own(client, folder)
                _save(engine, system, [*OWN.values(), *(standins()[name] for name in SHARED if name in standins())])
    return [system, services]


def _archive(name: str, *inputs: str) -> Path:
    if name == "system":
        inputs = (*inputs, DEBIAN_PACKAGES, *(file.read_text() for file in sorted(HERE.rglob("Dockerfile"))))
    return CACHE / f"cluster-{name}-{hashlib.sha256(repr(inputs).encode()).hexdigest()[:8]}.tar"


def _source() -> str:
    """Return a digest of what the services' image contains."""
    digest = hashlib.sha256()
    for folder in ("labservices", "datasets"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _engine() -> Iterator[Engine]:
    with (
        tempfile.TemporaryDirectory(prefix="saga-lab-engine-", ignore_cleanup_errors=True) as home,
        engine_with_standins(CACHE, Path(home)) as engine,
    ):
        yield engine


def _build_services(client: docker.DockerClient) -> None:
    with tempfile.TemporaryDirectory() as context:
        for folder in ("labservices", "datasets"):
            shutil.copytree(ROOT / folder, Path(context) / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "labservices" / "Dockerfile", context)
        build_image(client, Path(context), SERVICES, "", PYTHON=standins()["python"])


def _build_own(client: docker.DockerClient, folder: Path) -> None:
    archive = base_system(CACHE, "13", DEBIAN_PACKAGES, *NO_MAIN_CLUSTER)
    of_archive = f"{DEBIAN}-{archive.stem.rpartition('-')[2]}"  # imported again, every image would be built again
    if of_archive not in {tag for one in client.images.list() for tag in one.tags}:
        import_system(client, archive, of_archive)
    repository, tag = DEBIAN.split(":")
    client.images.get(of_archive).tag(repository, tag)
    for name, own in OWN.items():
        with tempfile.TemporaryDirectory() as context:
            shutil.copytree(HERE / name, context, dirs_exist_ok=True)
            for file in FILES.get(name, ()):
                shutil.copy(folder / file, context)
            if name == "proxyv2":
                shutil.copy(find_envoy(), Path(context) / "envoy")
            build_image(client, Path(context), own, name)


def _save(engine: Engine, archive: Path, images: list[str]) -> None:
    """Write an archive of images, and remove its older versions."""
    growing = archive.with_suffix(".growing")
    environment = {**environment_with_programs(engine_programs(CACHE)), **engine.environment}
    subprocess.run(["docker", "save", "--output", growing, *images], env=environment, check=True)
    for older in CACHE.glob(f"{archive.name.rpartition('-')[0]}-*.tar"):
        older.unlink()
    growing.rename(archive)
