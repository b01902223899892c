"""Install a program from its project's release archive, verified against the published checksum."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import httpx

from labstack.config.paths import has_sha256
from labstack.errors import DownloadFailed, ProgramMissing, StorageError
from labstack.install.errors import VerificationFailed
from labstack.install.sources.client import download_client
from labstack.install.sources.from_image import ARCHITECTURES, this_machine
from labstack.install.sources.layers import GZIPPED, Header, Unpacking
from labstack.install.store import Program, Store

SYSTEMS = {"linux": "linux", "darwin": "darwin"}
LARGEST = 1 << 30
"""Maximum size of an archive in bytes."""

LARGEST_SUMS = 1 << 20
SUM = re.compile(r"[0-9a-fA-F]{64}")


def from_archive(store: Store, report: Callable[[str], None]) -> Program:
    """Install a program from its project's release archive.

    Parameters
    ----------
    store : Store
        Store of the program.
    report : callable
        Called with the progress as text.

    Raises
    ------
    ProgramMissing
        If the project has no archive, or none for this machine.
    DownloadFailed
        If the server can't be reached or has no such file.
    VerificationFailed
        If the archive does not match the published checksums or contains harmful entries.
    StorageError
        If the disk is full.
    """
    recipe = store.entry.in_archive
    if recipe is None:
        raise ProgramMissing("no release archive is known")
    if sys.platform not in SYSTEMS or this_machine() not in ARCHITECTURES.values():
        raise ProgramMissing(f"its project publishes no release archive for {sys.platform} on {this_machine()}")
    version = store.entry.version_from("archive")
    values = {"version": version, "os": SYSTEMS[sys.platform], "arch": this_machine()}
    url = recipe.url.format(**values)
    with download_client(url) as client, store.staging() as staging:
        report("reading the published checksums")
        archive = staging / PurePosixPath(url).name
        published = _published(_text(client, recipe.checksums.format(**values)), archive.name)
        program_name = PurePosixPath(recipe.path).name
        if not {archive.name, program_name} & set(published):
            raise DownloadFailed(
                f"No SHA-256 of {archive.name} is published at {recipe.checksums.format(**values)}",
                next_step="correct the addresses in lab-stack/versions.toml",
            )
        sha256 = _download(client, url, archive, report)
        if archive.name in published and published[archive.name] != sha256:
            raise VerificationFailed(f"{archive.name} does not match its published SHA-256.")
        report("unpacking")
        content = _unpack(archive, recipe.path, store.entry.program, staging)
        program = content / store.entry.program
        if not program.is_file() or not os.access(program, os.X_OK):
            raise DownloadFailed(
                f"{archive.name} has no program {recipe.path or store.entry.program}; its layout may have changed",
                next_step="correct the path in lab-stack/versions.toml",
            )
        if archive.name not in published and not has_sha256(program, published[program_name]):
            raise VerificationFailed(f"The program in {archive.name} does not match its published SHA-256.")
        return store.put(content, "archive", url, version)


def _text(client: httpx.Client, url: str) -> str:
    """Download a small text, truncated to the maximum size."""
    content = b""
    try:
        with client.stream("GET", url) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > LARGEST_SUMS:
                    break
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    return content[:LARGEST_SUMS].decode(errors="replace")


def _published(text: str, archive: str) -> dict[str, str]:
    """Return the SHA-256 of each file by its base name; see sha256sum(1) for the format.

    Some projects publish the sums of their archives (Prometheus), some those of the files in an archive (Jaeger), and
    some only the sum of a single archive (Grafana).
    """
    if SUM.fullmatch(text.strip()):
        return {archive: text.strip().lower()}
    found = {}
    for line in text.splitlines():
        sum_, _, name = line.strip().partition(" ")
        if SUM.fullmatch(sum_) and name.strip():
            found[PurePosixPath(name.strip().lstrip("*")).name] = sum_.lower()
    return found


def _download(client: httpx.Client, url: str, target: Path, report: Callable[[str], None]) -> str:
    """Download a file, and return its SHA-256."""
    sha256, done = hashlib.sha256(), 0
    try:
        with client.stream("GET", url) as answer, target.open("wb") as file:
            answer.raise_for_status()
            size = int(answer.headers.get("Content-Length", 0))
            for piece in answer.iter_bytes(1 << 18):
                done += len(piece)
                if done > LARGEST:
                    raise VerificationFailed(f"{target.name} is larger than {LARGEST / 1e6:.0f} MB.")
                file.write(piece)
                sha256.update(piece)
                report(f"{done / 1e6:.0f} of {size / 1e6:.0f} MB" if size else f"{done / 1e6:.0f} MB")
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from error
    except OSError as error:
        raise StorageError(f"The lab can't write {target}: {error.strerror}.", next_step="free some space") from error
    return sha256.hexdigest()


def _unpack(archive: Path, path: str, program: str, staging: Path) -> Path:
    """Unpack `path` from an archive with one top-level folder, and place the program at its expected path."""
    try:
        with tarfile.open(archive, "r|gz", tarinfo=Header) as listing:
            first = next(iter(listing), None)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise VerificationFailed(f"{archive.name} can't be unpacked: {error}.") from error
    parts = PurePosixPath(first.name.lstrip("./")).parts if first else ()
    if not parts:
        raise VerificationFailed(f"{archive.name} does not start with a folder or a file in a folder.")
    top = parts[0]
    content = staging / "files"
    target = content if path else content / PurePosixPath(program).parts[0]
    target.mkdir(parents=True)
    Unpacking(f"{top}/{path}", target).layer(archive, GZIPPED[0])
    if path and (target / PurePosixPath(path).name).is_file():
        (target / PurePosixPath(path).name).rename(target / program)
    return content


def _unreachable(url: str, error: httpx.HTTPError) -> DownloadFailed:
    reason = (
        f"{error.response.status_code} {error.response.reason_phrase}"
        if isinstance(error, httpx.HTTPStatusError)
        else str(error) or type(error).__name__
    )
    return DownloadFailed(
        f"{url} can't be downloaded: {reason}",
        next_step="check the network (HTTPS_PROXY sets the proxy), then run the same command again",
    )
