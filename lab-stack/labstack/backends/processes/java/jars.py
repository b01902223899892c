"""Download and verify the pinned jars of Kafka, Connect and Debezium from Maven Central."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from labstack.config.paths import has_sha256, writable_folder
from labstack.config.versions import VERSIONS
from labstack.errors import DownloadFailed
from labstack.state import remove_tree

JARS: dict[str, str] = VERSIONS["maven"]["jars"]
THREADS = 8
AGENT = next(coordinate for coordinate in JARS if coordinate.startswith("io.prometheus.jmx:"))
DIGEST = hashlib.sha256(json.dumps(JARS, sort_keys=True).encode()).hexdigest()[:12]


def jar_folder(cache: Path) -> Path:
    """Return the folder of the jars. Its name contains the list's digest, so another list has another folder."""
    return cache / "jars" / DIGEST


def class_path(cache: Path) -> str:
    """Return the class path. Its order is fixed, as the class-data archive requires."""
    return os.pathsep.join(str(jar_folder(cache) / _file_name(c)) for c in sorted(JARS))


def agent(cache: Path) -> Path:
    """Return the path of the agent that exposes JMX to Prometheus.

    Containers need only this jar, so it is downloaded on its own if it is missing.

    Raises
    ------
    DownloadFailed
        See `fetch`.
    """
    jar = jar_folder(cache) / _file_name(AGENT)
    if not has_sha256(jar, JARS[AGENT]):
        _use_system_certificates()
        writable_folder(jar.parent)
        _fetch_one(AGENT, jar.parent, cache / "downloads")
    return jar


def damaged(cache: Path) -> list[str]:
    """Return the names of files that are missing or whose SHA-256 differs from the pinned one."""
    folder = jar_folder(cache)
    with ThreadPoolExecutor(4) as pool:
        intact = pool.map(lambda c: has_sha256(folder / _file_name(c), JARS[c]), JARS)
        return [_file_name(c) for c, is_intact in zip(JARS, intact, strict=True) if not is_intact]


def fetch(cache: Path, report: Callable[[int, int], None] = lambda done, total: None) -> Path:
    """Download the missing and damaged jars, and return the folder of the complete set.

    Parameters
    ----------
    cache : Path
        The lab's cache folder.
    report : callable
        Called with the number of jars that are present and the total: at the start, and after each download.

    Raises
    ------
    DownloadFailed
        If the network is unavailable, or a jar differs from the pinned one. Downloaded jars are kept for the next try.
    """
    folder = jar_folder(cache)
    missing = damaged(cache)
    if not missing:
        return folder
    _use_system_certificates()
    writable_folder(folder)
    coordinates = [c for c in JARS if _file_name(c) in missing]
    done = len(JARS) - len(coordinates)
    report(done, len(JARS))
    downloads = cache / "downloads"
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(_fetch_one, coordinate, folder, downloads) for coordinate in coordinates]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                report(done, len(JARS))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    remove_tree(downloads)
    return folder


def _use_system_certificates() -> None:
    """Trust the certificates that this machine trusts: company networks often use their own."""
    import truststore

    truststore.inject_into_ssl()


def _fetch_one(coordinate: str, folder: Path, downloads: Path) -> None:
    from jgo.maven import MavenContext, PythonResolver

    group, artifact, version = coordinate.split(":")
    target = folder / _file_name(coordinate)
    last_error: Exception | None = None
    for _ in range(3):
        context = MavenContext(resolver=PythonResolver(), repo_cache=downloads)
        try:
            path = context.project(group, artifact).at_version(version).artifact().resolve()
        except Exception as error:
            last_error = error
            continue
        if path is not None and has_sha256(Path(path), JARS[coordinate]):
            os.replace(path, target)
            return
        if path is not None:
            Path(path).unlink(missing_ok=True)
        last_error = ValueError("its SHA-256 is not the one in lab-stack/versions.toml")
    raise DownloadFailed(
        f"{coordinate} could not be downloaded from Maven Central: {_first_line(last_error)}.",
        next_step="check the network (HTTPS_PROXY sets the proxy), then run the same command again; "
        "downloaded jars are kept",
    ) from last_error


def _first_line(error: Exception | None) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _file_name(coordinate: str) -> str:
    _, artifact, version = coordinate.split(":")
    return f"{artifact}-{version}.jar"
