"""Pull the images pinned in ``lab-stack/versions.toml``, and build the services' image."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import docker
from docker.errors import BuildError, ImageNotFound

import labservices
from labstack.backends.docker import user_config
from labstack.backends.docker.engine import engine, operation_error, translate_errors
from labstack.config.digests import known_digest, remember_digests
from labstack.config.paths import DATASETS
from labstack.config.versions import VERSIONS
from labstack.errors import ComponentFailed, DownloadFailed, LabError

IMAGES: tuple[str, ...] = tuple(VERSIONS["images"])
"""Names of the images in the versions file."""

SERVICES = "saga-lab-services"
"""Name of the image that the lab builds from ``labservices/``."""

SOURCES = (DATASETS, Path(labservices.__file__).parent)
"""The folders that the services' image contains."""

KEPT_BUILDS = 3
"""Number of builds to keep, so that the learner's last edits need no new build."""

_build_lock = threading.Lock()


def image(name: str) -> str:
    """Return the image of a component: from ``LAB_IMAGE_POSTGRES`` and so on, else from the versions file."""
    return os.environ.get(f"LAB_IMAGE_{name.upper()}") or pinned(name)


def pinned(name: str) -> str:
    """Return the official image from the versions file, by digest where one is known."""
    entry: dict[str, str] = VERSIONS["images"][name]
    digest = entry.get("digest") or known_digest(entry["image"])
    return f"{entry['image']}@{digest}" if digest else entry["image"]


def missing(names: Iterable[str]) -> list[str]:
    """Return the names of the images that are not on this machine."""
    client, missing_names = engine(), []
    for name in names:
        with translate_errors(f"the image {image(name)} can't be looked up"):
            try:
                client.images.get(image(name))
            except ImageNotFound:
                missing_names.append(name)
    return missing_names


def pull(name: str, report: Callable[[str], None] = lambda text: None) -> None:
    """Pull an image.

    Parameters
    ----------
    name : str
        Name of the image in the versions file.
    report : callable
        Called with the progress as text.

    Raises
    ------
    DownloadFailed
        If the registry can't be reached or has no such image.
    """
    wanted = image(name)
    repository, tag = (wanted, None) if "@" in wanted else split(wanted)
    layers: dict[str, tuple[int, int]] = {}
    credentials, no_credentials = user_config.credentials(repository)
    try:
        with translate_errors(f"the image {wanted} can't be pulled"):
            for line in engine().api.pull(repository, tag=tag, stream=True, decode=True, auth_config=credentials):
                if error := line.get("error"):
                    raise operation_error(f"the image {wanted} can't be pulled", error)
                detail = line.get("progressDetail") or {}
                if line.get("status") == "Downloading" and detail.get("total"):
                    layers[line["id"]] = (detail["current"], detail["total"])
                    done, total = (sum(part) / 1e6 for part in zip(*layers.values(), strict=True))
                    report(f"{done:.0f} of {total:.0f} MB")
    except LabError as error:
        if type(error) is not LabError:
            raise
        raise DownloadFailed(
            error.problem,
            next_step=f"check the network{no_credentials}, then run the same command again; or set "
            f"LAB_IMAGE_{name.upper()} to another "
            "image; or use local mode: LAB_MODE=local",
        ) from error
    if wanted == VERSIONS["images"][name]["image"]:  # pulled by its tag, which can be moved
        _remember_digest(wanted, repository)


def _remember_digest(wanted: str, repository: str) -> None:
    """Record the digest of an image that was pulled by its tag. From then on, only this digest is used."""
    with translate_errors(f"the digest of {wanted} can't be read"):
        known: list[str] = engine().images.get(wanted).attrs.get("RepoDigests") or []
    for name, _, digest in (one.partition("@") for one in known):
        if name == repository:
            remember_digests({wanted: digest})
            return


def split(reference: str) -> tuple[str, str]:
    """Split ``repository:tag``. A registry's port is not a tag."""
    repository, colon, tag = reference.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (reference, "latest")


def services_image() -> str:
    """Return the image of the services' current code in ``labservices/``. Build it if it does not exist.

    Raises
    ------
    ComponentFailed
        If the build fails. The error contains the end of the build's output.
    """
    context = _context()
    tag = f"{SERVICES}:{hashlib.sha256(context + image('python').encode()).hexdigest()[:16]}"
    client = engine()
    with _build_lock:
        with translate_errors("the services' image can't be looked up"):
            try:
                client.images.get(tag)
                return tag
            except ImageNotFound:
                pass
        with translate_errors("the services' image can't be built"):
            try:
                client.images.build(
                    fileobj=io.BytesIO(context),
                    custom_context=True,
                    dockerfile="labservices/Dockerfile",
                    buildargs={"PYTHON": image("python")},
                    tag=tag,
                    rm=True,
                    forcerm=True,
                    labels={SERVICES: ""},
                )
            except BuildError as error:
                output = "".join(line.get("stream", "") or line.get("error", "") for line in error.build_log)
                raise ComponentFailed(
                    f"The services' image can't be built: {error.msg}",
                    log="\n".join(output.splitlines()[-15:]),
                    next_step="fix what the build reports (labservices/Dockerfile), then run the same command again",
                ) from error
        _remove_old_builds(client)
        return tag


def _context() -> bytes:
    """Return a tar archive of the files that the Dockerfile copies. The same content gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in SOURCES:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    _add(archive, path, path.relative_to(folder.parent))
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, path: Path, name: Path) -> None:
    content = path.read_bytes()
    entry = tarfile.TarInfo(name.as_posix())
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _remove_old_builds(client: docker.DockerClient) -> None:
    builds = client.images.list(filters={"label": SERVICES})
    for old in sorted(builds, key=lambda found: found.attrs["Created"], reverse=True)[KEPT_BUILDS:]:
        for tag in old.tags:
            with translate_errors("an old build of the services' image can't be removed"):
                try:
                    client.images.remove(tag)
                except docker.errors.APIError:
                    continue  # a container of another lab uses it
