"""A registry of images, asked without Docker: manifests and layers through the OCI distribution API.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oras.container  # type: ignore[import-untyped]
import oras.provider  # type: ignore[import-untyped]
import requests
import truststore
from oras import defaults
from urllib3.exceptions import HTTPError

from labstack.errors import DownloadFailed, StorageTrouble
from labstack.install.manifests import INDEXES, MANIFESTS, Blob, Manifest
from labstack.install.trouble import Refused

LARGEST_MANIFEST = 4_000_000
"""Bytes; the distribution specification asks registries to take at least this much, and real ones are far smaller."""

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes."""

TRIES = 5
"""How often a layer's download goes on where it was cut before it is given up."""

CHUNK = 1 << 18


class _Client(oras.provider.Registry):
    """oras with time limits, and without its waits of up to 130 s: who waits here is told, and may go on later."""

    def do_request(self, url: str, method: str = "GET", **options: Any) -> requests.Response:
        response: requests.Response = oras.provider.Registry.do_request.__wrapped__(self, url, method, **options)
        return response


class _Patient(requests.adapters.HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        return super().send(request, *args, **{**options, "timeout": options.get("timeout") or TIMEOUT})


class Registry:
    """One repository of a registry; a context, which closes its connections.

    Parameters
    ----------
    image : str
        ``[REGISTRY/]REPOSITORY[:TAG][@DIGEST]``, as Docker reads it. One on this machine is spoken to without TLS, as
        Docker does.
    """

    def __init__(self, image: str) -> None:
        truststore.inject_into_ssl()  # a company's network often brings certificates of its own
        try:
            self.image = oras.container.Container(image)
        except ValueError as error:
            raise DownloadFailed(f"{image!r} is not the name of an image.") from error
        if self.image.registry == defaults.registry.index_name:
            self.image.registry = defaults.registry.default_v2_registry["host"]
            self.image.namespace = self.image.namespace or "library"
        host = re.sub(r":\d+$", "", self.image.registry)
        on_this_machine = host in ("localhost", "127.0.0.1", "[::1]")
        self._client = _Client(insecure=on_this_machine)
        self._client.session.trust_env = not on_this_machine  # no proxy in between
        for scheme in ("http://", "https://"):
            self._client.session.mount(scheme, _Patient())
        self._answers: list[requests.Response] = []
        self._client.session.hooks["response"].append(lambda answer, **_: self._answers.append(answer))

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        for answer in self._answers:  # refusals among them, which oras leaves open
            answer.close()
        self._client.session.close()

    def manifest(self, reference: str) -> Manifest:
        """Return what is under a tag or a digest; under a digest nothing but what has it.

        Raises
        ------
        DownloadFailed
            The registry can't be reached, or has no such thing.
        Refused
            It is something else than a manifest or an index, or has another digest.
        """
        headers = {"Accept": ", ".join((*INDEXES, *MANIFESTS)), "Accept-Encoding": "identity"}
        with self._get(self.image.manifest_url(reference), headers) as answer:
            raw = b""
            for piece in answer.iter_content(CHUNK):
                raw += piece
                if len(raw) > LARGEST_MANIFEST:
                    raise Refused(f"The manifest of {self.image} is larger than {LARGEST_MANIFEST / 1e6:.0f} MB.")
            media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type not in (*INDEXES, *MANIFESTS):  # a log-in page of this network, say
            raise DownloadFailed(
                f"What the registry has for {self.image} is no image that is known here: {media_type[:100]!r}",
                next_step="check the network and the image's name, then run the same command again",
            )
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if reference.startswith("sha256:") and digest != reference:
            raise Refused(f"The registry sent a manifest with digest {digest} for {self.image}, not {reference}.")
        try:
            content = json.loads(raw)
        except ValueError:
            content = None
        if not isinstance(content, dict) or content.get("mediaType", media_type) != media_type:
            raise Refused(f"The manifest {digest} of {self.image} is not what it says to be, {media_type}.")
        return Manifest(digest, media_type, content)

    def json_blob(self, blob: Blob) -> Any:
        """Return a small part of the image that is JSON, its configuration say, after its SHA-256 was checked."""
        if blob.size > LARGEST_MANIFEST:
            raise Refused(f"{blob.digest} of {self.image} is said to be {blob.size} bytes; that is too large.")
        with self._get(self.image.get_blob_url(blob.digest), {"Accept-Encoding": "identity"}) as answer:
            raw = answer.raw.read(blob.size + 1)
        if f"sha256:{hashlib.sha256(raw).hexdigest()}" != blob.digest:
            raise Refused(f"The registry sent something else for {blob.digest} of {self.image}.")
        try:
            return json.loads(raw)
        except ValueError:
            raise Refused(f"{blob.digest} of {self.image} is not JSON.") from None

    def fetch(self, blob: Blob, folder: Path, tell: Callable[[int], None] = lambda done: None) -> Path:
        """Download a layer, going on where an earlier try was cut, and return the file once its SHA-256 is right.

        Parameters
        ----------
        blob : Blob
            Which one.
        folder : Path
            Where it goes. While it grows its name ends in ``.part``.
        tell : callable
            Told how many bytes are there.

        Raises
        ------
        DownloadFailed
            The registry can't be reached, or cuts the connection again and again; what came is kept for the next try.
        Refused
            What came has another SHA-256, or is longer than the manifest says.
        StorageTrouble
            The disk is full.
        """
        target = folder / blob.digest.replace(":", "-")
        part = target.with_name(target.name + ".part")
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if target.exists():  # complete, but an unpacking was interrupted
                target.replace(part)
            went_on = part.exists()
            right = self._complete(blob, part, tell)
            if not right and went_on:  # what the earlier try left may have been damaged on this disk: nobody's attack
                right = self._complete(blob, part, tell)
            if not right:
                raise Refused(f"The layer {blob.digest} of {self.image} came with another SHA-256: it was changed.")
            part.replace(target)
        except OSError as error:
            raise StorageTrouble(
                f"The lab can't write {part}: {error.strerror}.", next_step="free some space"
            ) from error
        return target

    def _complete(self, blob: Blob, part: Path, tell: Callable[[int], None]) -> bool:
        """Fetch what is missing and say whether the whole is right; what isn't, is removed."""
        for remaining in reversed(range(TRIES)):
            try:
                right = self._append(blob, part, tell)
                break
            except _Cut:
                if remaining == 0:
                    raise
        if not right:
            part.unlink()
        return right

    def _append(self, blob: Blob, part: Path, tell: Callable[[int], None]) -> bool:
        sha256 = hashlib.sha256()
        with part.open("a+b") as file:
            file.seek(0)
            while piece := file.read(CHUNK):
                sha256.update(piece)
            done = file.tell()
            if done < blob.size:
                headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
                with self._get(self.image.get_blob_url(blob.digest), headers) as answer:
                    goes_on = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
                    if done and not (answer.status_code == 206 and goes_on):
                        file.truncate(0)
                        sha256, done = hashlib.sha256(), 0
                    for piece in answer.raw.stream(CHUNK, decode_content=False):
                        done += len(piece)
                        if done > blob.size:
                            part.unlink()
                            raise Refused(f"The layer {blob.digest} of {self.image} is longer than its manifest says.")
                        file.write(piece)
                        sha256.update(piece)
                        tell(done)
                if done < blob.size:
                    raise _Cut(f"The registry ended the layer {blob.digest} of {self.image} after {done} bytes")
        return f"sha256:{sha256.hexdigest()}" == blob.digest

    @contextlib.contextmanager
    def _get(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        try:
            answer = self._client.do_request(f"{self._client.prefix}://{url}", headers=headers, stream=True)
        except (requests.RequestException, ValueError) as error:
            raise DownloadFailed(
                f"The registry of {self.image} can't be asked: {_plainly(error)}",
                next_step="check the network (a proxy is taken from HTTPS_PROXY), then run the same command again",
            ) from error
        with answer:
            if answer.status_code not in (200, 206):
                raise DownloadFailed(
                    f"The registry of {self.image} answers {answer.status_code} {answer.reason} "
                    f"to {url.split('/', 1)[1]}",
                    next_step="check the image's name, then run the same command again",
                )
            try:
                yield answer
            except (HTTPError, requests.RequestException) as error:
                raise _Cut(
                    f"The connection to the registry of {self.image} was cut: {_plainly(error)}",
                    next_step="run the same command again; it goes on where this one was cut",
                ) from error


class _Cut(DownloadFailed):
    """The connection was cut in the middle."""


def _plainly(error: BaseException) -> str:
    """Return the innermost cause, which names what happened; the outer ones are wrapped around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]  # one of them is there
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
