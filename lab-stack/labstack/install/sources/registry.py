"""Query an image registry without Docker: manifests and layers through the OCI distribution API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md, and for anonymous tokens
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import parse_http_list, parse_keqv_list

import httpx

from labstack.errors import DownloadFailed, StorageError
from labstack.install.errors import VerificationFailed
from labstack.install.sources.client import download_client
from labstack.install.sources.image_name import ImageName
from labstack.install.sources.manifests import INDEXES, MANIFESTS, Blob, Manifest

LARGEST_MANIFEST = 4_000_000
"""Maximum size of a manifest in bytes.

The distribution specification requires registries to accept at least this size. Real manifests are far smaller.
"""

TRIES = 5
"""Number of times that a layer's download is attempted, resuming after each cut connection."""

CHUNK = 1 << 18


class Registry:
    """One repository of a registry. A context manager that closes its connections.

    Parameters
    ----------
    image : str
        ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``, in Docker's syntax. A registry on this machine is queried without TLS,
        as Docker does.

    Raises
    ------
    DownloadFailed
        If the name is not valid, or the proxy in the environment can't be used.
    """

    def __init__(self, image: str) -> None:
        self.image = ImageName.of(image)
        self._client = download_client(self.image.url)
        self._token = ""

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def manifest(self, reference: str) -> Manifest:
        """Return the manifest or index for a tag or digest. A digest is verified.

        Raises
        ------
        DownloadFailed
            If the registry can't be reached, has no such manifest, or returns another media type.
        VerificationFailed
            If the response is too large, invalid, or has another digest.
        """
        accepted = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with self._get(f"manifests/{reference}", accepted) as answer:
            raw = _read_at_most(answer, LARGEST_MANIFEST)
            if len(raw) > LARGEST_MANIFEST:
                raise VerificationFailed(
                    f"The manifest of {self.image} is larger than {LARGEST_MANIFEST / 1e6:.0f} MB."
                )
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type not in (*INDEXES, *MANIFESTS):  # for example a login page of this network
            raise DownloadFailed(
                f"The registry returned {media_type[:100]!r} for {self.image}, not an image manifest",
                next_step="check the network and the image's name, then run the same command again",
            )
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise VerificationFailed(
                f"The registry sent a manifest with digest {digest} for {self.image}, not {reference}."
            )
        try:
            content = json.loads(raw)
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("mediaType", media_type) != media_type:
            raise VerificationFailed(
                f"The manifest {digest} of {self.image} does not match its media type, {media_type}."
            )
        return Manifest(digest, media_type, content)

    def json_blob(self, blob: Blob) -> Any:
        """Return a small JSON blob, such as the image's configuration, after checking its SHA-256."""
        if blob.size > LARGEST_MANIFEST:
            raise VerificationFailed(
                f"{blob.digest} of {self.image} has a declared size of {blob.size} bytes, which is too large."
            )
        with self._get(f"blobs/{blob.digest}") as answer:
            raw = _read_at_most(answer, blob.size)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != blob.digest:
            raise VerificationFailed(
                f"The registry sent content with another SHA-256 for {blob.digest} of {self.image}."
            )
        try:
            return json.loads(raw)
        except ValueError:
            raise VerificationFailed(f"{blob.digest} of {self.image} is not JSON.") from None

    def fetch(self, blob: Blob, folder: Path, report: Callable[[int], None] = lambda done: None) -> Path:
        """Download a layer, resume an interrupted download, and verify the SHA-256.

        Parameters
        ----------
        blob : Blob
            The layer.
        folder : Path
            Target folder. The file's name ends in ``.part`` until the download is complete.
        report : callable
            Called with the number of bytes received so far.

        Returns
        -------
        Path
            The verified file.

        Raises
        ------
        DownloadFailed
            If the registry can't be reached or repeatedly cuts the connection. The partial file is kept for the next
            try.
        VerificationFailed
            If the layer has another SHA-256 or is longer than the manifest declares.
        StorageError
            If the disk is full.
        """
        target = folder / blob.digest.replace(":", "-")
        part = target.with_name(target.name + ".part")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if target.exists():  # complete, but an unpacking was interrupted
                target.replace(part)
            resumed = part.exists()
            is_intact = self._complete(blob, part, report)
            if not is_intact and resumed:  # the earlier partial file may be damaged on this disk
                is_intact = self._complete(blob, part, report)
            if not is_intact:
                raise VerificationFailed(
                    f"The layer {blob.digest} of {self.image} was changed: its SHA-256 is different."
                )
            part.replace(target)
        except OSError as error:
            raise StorageError(f"The lab can't write {part}: {error.strerror}.", next_step="free some space") from error
        return target

    def _complete(self, blob: Blob, part: Path, report: Callable[[int], None]) -> bool:
        """Download the missing bytes, and report whether the file matches its digest. Remove it if it does not."""
        for remaining in reversed(range(TRIES)):
            try:
                is_intact = self._append(blob, part, report)
                break
            except _ConnectionLost:
                if remaining == 0:
                    raise
        if not is_intact:
            part.unlink()
        return is_intact

    def _append(self, blob: Blob, part: Path, report: Callable[[int], None]) -> bool:
        sha256 = hashlib.sha256()
        with part.open("a+b") as file:
            file.seek(0)
            while piece := file.read(CHUNK):
                sha256.update(piece)
            done = file.tell()
            if done < blob.size:
                with self._get(f"blobs/{blob.digest}", {"Range": f"bytes={done}-"} if done else None) as answer:
                    is_continued = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
                    if done and not (answer.status_code == 206 and is_continued):
                        file.truncate(0)
                        sha256, done = hashlib.sha256(), 0
                    for piece in answer.iter_raw():
                        done += len(piece)
                        if done > blob.size:
                            part.unlink()
                            raise VerificationFailed(
                                f"The layer {blob.digest} of {self.image} is longer than its manifest declares."
                            )
                        file.write(piece)
                        sha256.update(piece)
                        report(done)
                if done < blob.size:
                    raise _ConnectionLost(
                        f"The download of the layer {blob.digest} of {self.image} was cut after {done} bytes"
                    )
        return f"sha256:{sha256.hexdigest()}" == blob.digest

    @contextlib.contextmanager
    def _get(self, path: str, headers: dict[str, str] | None = None) -> Iterator[httpx.Response]:
        """Request a manifest or blob, with an anonymous token if the registry demands one."""
        try:
            answer = self._send(path, headers or {})
            if answer.status_code == 401:
                answer.close()
                self._token = self._anonymous_token(answer.headers.get("WWW-Authenticate", ""))
                answer = self._send(path, headers or {})
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise DownloadFailed(
                f"The registry of {self.image} can't be queried: {_root_cause(error)}",
                next_step="check the network (HTTPS_PROXY sets the proxy), then run the same command again",
            ) from error
        with contextlib.closing(answer):
            if answer.status_code not in (200, 206):
                raise DownloadFailed(
                    f"The registry of {self.image} returned {answer.status_code} {answer.reason_phrase} "
                    f"for {self.image.path}/{path}",
                    next_step="check the image's name, then run the same command again",
                )
            try:
                yield answer
            except httpx.HTTPError as error:
                raise _ConnectionLost(
                    f"The connection to the registry of {self.image} was cut: {_root_cause(error)}",
                    next_step="run the same command again; it resumes the download",
                ) from error

    def _send(self, path: str, headers: dict[str, str]) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        request = self._client.build_request(
            "GET", f"{self.image.url}/{path}", headers={"Accept-Encoding": "identity", **headers, **authorization}
        )
        return self._client.send(request, stream=True)

    def _anonymous_token(self, challenge: str) -> str:
        """Obtain a token as a response's ``WWW-Authenticate`` describes it. Raise `ValueError` without one."""
        scheme, _, parameters = challenge.partition(" ")
        challenge_values = parse_keqv_list(parse_http_list(parameters)) if "=" in parameters else {}
        if scheme.lower() != "bearer" or "realm" not in challenge_values:
            raise ValueError("it demands authentication with a password")
        query = {str(n): challenge_values[n] for n in ("service", "scope") if n in challenge_values}
        answer = self._client.get(httpx.URL(challenge_values["realm"]).copy_merge_params(query))
        if answer.status_code != 200:
            raise ValueError(f"authentication failed: the token service returned {answer.status_code}")
        issued = answer.json()
        token = issued.get("token") or issued.get("access_token") if isinstance(issued, dict) else None
        if not isinstance(token, str):
            raise ValueError("authentication failed: the token service returned no token")
        return token


class _ConnectionLost(DownloadFailed):
    """The connection was cut in the middle."""


def _read_at_most(answer: httpx.Response, size: int) -> bytes:
    """Read a response's body, and stop as soon as it is longer than `size` bytes."""
    raw = b""
    for piece in answer.iter_raw():
        raw += piece
        if len(raw) > size:
            break
    return raw


def _root_cause(error: BaseException) -> str:
    """Return the message of the innermost cause; outer errors only wrap it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # one of them is there
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
