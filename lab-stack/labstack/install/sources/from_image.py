"""Install a program from its official image without Docker: read the manifest, and unpack one path from the layers."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from labstack.config.digests import known_digest, remember_digests
from labstack.errors import DownloadFailed, ProgramMissing
from labstack.install.errors import VerificationFailed
from labstack.install.sources.layers import LARGEST_UNPACKED, Unpacking
from labstack.install.sources.manifests import Blob, Manifest
from labstack.install.sources.registry import Registry
from labstack.install.store import Program, Store
from labstack.state import remove_tree

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Limits:
    """Maximum size of a layer in bytes: as downloaded, and unpacked."""

    layer: int = 2 << 30
    unpacked: int = LARGEST_UNPACKED


def this_machine() -> str:
    """Return this machine's architecture as images and releases name it, such as ``amd64``."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine.lower(), machine)


def this_platform() -> str:
    """Return this machine's platform as images name it, such as ``linux/amd64``."""
    return f"{sys.platform}/{this_machine()}"


def from_image(store: Store, report: Callable[[str], None], limits: Limits | None = None) -> Program:
    """Install a program from its official image.

    Parameters
    ----------
    store : Store
        Store of the program.
    report : callable
        Called with the progress as text.
    limits : Limits, optional
        Size limits; larger layers are rejected.

    Raises
    ------
    ProgramMissing
        If the program has no image, or none for this machine.
    DownloadFailed
        If the registry can't be reached. The next try resumes the download.
    VerificationFailed
        If the content does not match its digest or contains harmful entries.
    StorageError
        If the disk is full.
    """
    limits = limits or Limits()
    where = store.entry.in_image
    if where is None:
        raise ProgramMissing("it has no official image")
    if not sys.platform.startswith("linux"):
        raise ProgramMissing("images contain Linux programs, and this machine does not run Linux")
    with Registry(where.image) as registry, store.staging() as staging:
        digest = where.digest or known_digest(where.image)
        top = registry.manifest(digest or registry.image.tag)
        if not digest:
            # Pin the tag to the digest that it has today.
            file = remember_digests({where.image: top.digest})
            report(f"{where.image} is {top.digest}, recorded in {file}")
        manifest = for_this_machine(registry, top)
        content = staging / "files"
        content.mkdir()
        unpacking = Unpacking(where.path, content, limits.unpacked)
        _unpack(registry, manifest, unpacking, store.downloads, limits, report)
        program = content / store.entry.program
        if not program.is_file():
            raise DownloadFailed(
                f"{where.image} has no {where.path} with {store.entry.program}; its layout may have changed",
                next_step="correct the path in lab-stack/versions.toml",
            )
        if not os.access(program, os.X_OK):
            raise VerificationFailed(f"{where.path} of {where.image} is not a program: it is not executable.")
        installed = store.put(content, "image", f"{where.image}@{top.digest}", store.entry.version_from("image"))
    remove_tree(store.downloads)
    return installed


def _unpack(
    registry: Registry,
    manifest: Manifest,
    unpacking: Unpacking,
    downloads: Path,
    limits: Limits,
    report: Callable[[str], None],
) -> None:
    """Download and unpack layers from the top down, until the wanted path is complete."""
    layers = [Blob.of(descriptor) for descriptor in manifest.parts("layers")]
    for number, layer in reversed(list(enumerate(layers, 1))):
        if layer.size > limits.layer:
            raise VerificationFailed(
                f"The layer {layer.digest} of {registry.image} has a declared size of {layer.size / 1e6:.1f} MB; "
                f"more than {limits.layer / 1e6:.1f} MB is refused."
            )
        label = f"layer {number} of {len(layers)}"
        file = registry.fetch(layer, downloads, partial(_report_bytes, report, label, layer.size))
        report(f"{label}: unpacking")
        unpacking.layer(file, layer.media_type)
        file.unlink()
        if unpacking.complete:
            break


def _report_bytes(report: Callable[[str], None], label: str, size: int, done: int) -> None:
    report(f"{label}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")


def for_this_machine(registry: Registry, top: Manifest) -> Manifest:
    """Return the manifest for this machine's platform.

    Raises
    ------
    ProgramMissing
        If the image does not support the platform.
    """
    wanted, available = this_platform(), platforms(registry, top)
    if wanted not in available:
        known = ", ".join(sorted(available)) or "no platform"
        raise ProgramMissing(f"{registry.image} is available for {known}, not for {wanted}")
    return registry.manifest(available[wanted]) if top.is_index else top


def platforms(registry: Registry, top: Manifest) -> dict[str, str]:
    """Return the digest of each platform's image, by platform as ``os/architecture``."""
    if not top.is_index:
        config = registry.json_blob(Blob.of(top.content.get("config")))
        return {f"{config.get('os')}/{config.get('architecture')}": top.digest} if isinstance(config, dict) else {}
    found: dict[str, str] = {}
    for descriptor in top.parts("manifests"):
        kind = descriptor.get("platform") if isinstance(descriptor, dict) else None
        if isinstance(kind, dict) and kind.get("os") != "unknown":  # "unknown" is an attestation
            found.setdefault(f"{kind.get('os')}/{kind.get('architecture')}", Blob.of(descriptor).digest)
    return found
