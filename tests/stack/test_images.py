"""The images' names and digests in the versions file, which need no engine to be held."""

from __future__ import annotations

import tomllib

import pytest

from labstack.containers import images
from labstack.containers.lock import LockedImage, with_digest
from labstack.paths import CONFIG

TEXT = (CONFIG / "versions.toml").read_text(encoding="utf-8")
DIGEST = "sha256:" + "0123456789abcdef" * 4


def locked(digest: str = DIGEST) -> LockedImage:
    return LockedImage("kafka", "apache/kafka:4.3.1", digest, ("linux/amd64", "linux/arm64"))


def test_a_digest_is_written_beside_its_image_and_nowhere_else() -> None:
    """All else of the file stays; a second lock takes the first one's place."""
    once = with_digest(TEXT, locked())
    entry = tomllib.loads(once)["images"].pop("kafka")
    assert (entry["digest"], entry["platforms"]) == (DIGEST, ["linux/amd64", "linux/arm64"])
    assert entry["image"] == "apache/kafka:4.3.1"
    added = set(once.splitlines()) - set(TEXT.splitlines())
    assert len(once.splitlines()) - len(TEXT.splitlines()) == len(added) == 2
    twice = with_digest(once, locked("sha256:" + "f" * 64))
    assert len(twice.splitlines()) == len(once.splitlines())
    assert tomllib.loads(twice)["images"]["kafka"]["digest"] == "sha256:" + "f" * 64


def test_a_digest_that_is_known_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pinned image is asked for by its digest; the variable of a component names another one."""
    monkeypatch.delenv("LAB_IMAGE_KAFKA", raising=False)
    assert images.image("kafka") == "apache/kafka:4.3.1"
    monkeypatch.setitem(
        images.VERSIONS["images"], "kafka", tomllib.loads(with_digest(TEXT, locked()))["images"]["kafka"]
    )
    assert images.image("kafka") == f"apache/kafka:4.3.1@{DIGEST}"
    monkeypatch.setenv("LAB_IMAGE_KAFKA", "lab-standin/kafka:4.3.1")
    assert images.image("kafka") == "lab-standin/kafka:4.3.1"


def test_an_image_that_is_not_there_for_arm_is_told() -> None:
    """What a registry has for one kind of machine only can't be locked."""
    assert locked().lacks == []
    assert LockedImage("kafka", "x", DIGEST, ("linux/amd64",)).lacks == ["linux/arm64"]


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("postgres:16", ("postgres", "16")),
        ("localhost:5000/postgres", ("localhost:5000/postgres", "latest")),
        ("localhost:5000/postgres:16", ("localhost:5000/postgres", "16")),
    ],
)
def test_a_registrys_port_is_no_tag(reference: str, parts: tuple[str, str]) -> None:
    """Repository and tag are told apart as Docker does."""
    assert images.split(reference) == parts
