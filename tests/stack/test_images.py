"""Names and digests of images in the versions file, tested without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstack.backends.docker import images
from labstack.config.digests import digests_file, known_digest, remember_digests
from labstack.errors import LabError

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a separate configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_recorded_digest_stays_until_it_is_replaced() -> None:
    """A digest is recorded by image; a second record replaces the first, and the others stay."""
    remember_digests({"a/tool:1": DIGEST, "b/tool:1": DIGEST})
    remember_digests({"a/tool:1": "sha256:" + "f" * 64})
    assert known_digest("a/tool:1") == "sha256:" + "f" * 64
    assert known_digest("b/tool:1") == DIGEST
    assert known_digest("a/tool:2") == ""


def test_damaged_digest_record_is_an_error() -> None:
    """A damaged record is an error; otherwise another image could replace the recorded one unnoticed."""
    remember_digests({"a/tool:1": DIGEST})
    digests_file().write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match="damaged"):
        known_digest("a/tool:1")


def test_known_digest_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is referenced by its digest, first the versions file's; an environment variable names another image."""
    monkeypatch.delenv("LAB_IMAGE_POSTGRES", raising=False)
    assert images.image("postgres") == "postgres:18"
    remember_digests({"postgres:18": DIGEST, "apache/kafka:4.3.1": DIGEST})
    assert images.image("postgres") == f"postgres:18@{DIGEST}"
    assert images.pinned("kafka") == f"apache/kafka:4.3.1@{images.VERSIONS['images']['kafka']['digest']}"
    monkeypatch.setenv("LAB_IMAGE_POSTGRES", "lab-standin/postgres:18.4")
    assert images.image("postgres") == "lab-standin/postgres:18.4"


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("postgres:18", ("postgres", "18")),
        ("localhost:5000/postgres", ("localhost:5000/postgres", "latest")),
        ("localhost:5000/postgres:18", ("localhost:5000/postgres", "18")),
    ],
)
def test_registry_port_is_not_a_tag(reference: str, parts: tuple[str, str]) -> None:
    """Repository and tag are separated as in Docker."""
    assert images.split(reference) == parts
