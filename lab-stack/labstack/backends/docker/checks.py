"""Preflight checks of the container backend: the engine, its images and memory, and leftovers of other labs."""

from __future__ import annotations

from pathlib import Path

from labstack.backends.docker.backend import FOLDER_LABEL, LAB_LABEL
from labstack.backends.docker.engine import engine, engine_address, translate_errors
from labstack.backends.docker.images import IMAGES, image, missing
from labstack.findings import NEEDED_MEMORY, Finding


def docker() -> Finding:
    """Check whether the engine answers."""
    with translate_errors("Docker's version can't be queried"):
        version = engine().version()
    return Finding("Docker", "ok", f"engine {version['Version']}, {version['Arch']}, at {engine_address()}")


def images() -> Finding:
    """Check which images are present."""
    absent = missing(IMAGES)
    if not absent:
        return Finding("images", "ok", ", ".join(image(name) for name in IMAGES))
    wanted = ", ".join(image(name) for name in absent)
    return Finding("images", "warning", f"not downloaded yet: {wanted}", "`lab up` or `lab prefetch` downloads them")


def memory() -> Finding:
    """Check how much memory the engine has; on macOS and Windows, that of its virtual machine."""
    with translate_errors("Docker's memory can't be queried"):
        total = int(engine().info()["MemTotal"])
    seen = f"{total / 1e9:.1f} GB for all containers"
    if total < NEEDED_MEMORY * 1.5:
        return Finding("memory", "warning", seen, "give Docker 2 GB or more (Docker Desktop: Settings, Resources)")
    return Finding("memory", "ok", seen)


def leftovers() -> Finding:
    """Check for containers, networks and volumes of labs whose folder no longer exists."""
    left = orphans()
    if left:
        kinds = ", ".join(f"{len(found)} {kind}" for kind, found in left.items())
        return Finding("leftovers", "warning", f"from deleted labs: {kinds}", "`lab sweep` removes them")
    return Finding("leftovers", "ok", "none")


def orphans() -> dict[str, list[str]]:
    """Return the names of resources of labs whose folder no longer exists on this machine, by kind."""
    client, label = engine(), {"label": LAB_LABEL}
    with translate_errors("the leftovers of deleted labs can't be listed"):
        every = {
            "containers": client.containers.list(all=True, filters=label, ignore_removed=True),
            "networks": client.networks.list(filters=label),
            "volumes": client.volumes.list(filters=label),
        }
    found = {kind: [str(one.name) for one in many if _is_orphan(one.attrs)] for kind, many in every.items()}
    return {kind: names for kind, names in found.items() if names}


def _is_orphan(attributes: dict[str, object]) -> bool:
    config = attributes.get("Config") or attributes
    labels = (config.get("Labels") if isinstance(config, dict) else None) or {}
    folder = labels.get(FOLDER_LABEL, "")
    return folder != "" and not Path(folder).exists()


def sweep() -> dict[str, list[str]]:
    """Remove the resources of labs whose folder no longer exists, and return their names by kind."""
    client, left = engine(), orphans()
    with translate_errors("the leftovers of deleted labs can't be removed"):
        for name in left.get("containers", []):
            client.containers.get(name).remove(force=True, v=True)
        for name in left.get("networks", []):
            client.networks.get(name).remove()
        for name in left.get("volumes", []):
            client.volumes.get(name).remove(force=True)
    return left
