"""The images' names and digests in the versions file, which need no engine to be held."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstack.containers import images
from labstack.digests import digests_file, known_digest, remember_digests
from labstack.errors import LabError

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a configuration folder of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_recorded_digest_stays_until_it_is_recorded_anew() -> None:
    """The record is kept by image; a second one takes the first one's place, and the others stay."""
    remember_digests({"a/tool:1": DIGEST, "b/tool:1": DIGEST})
    remember_digests({"a/tool:1": "sha256:" + "f" * 64})
    assert known_digest("a/tool:1") == "sha256:" + "f" * 64
    assert known_digest("b/tool:1") == DIGEST
    assert known_digest("a/tool:2") == ""


def test_a_damaged_record_is_not_ignored() -> None:
    """Otherwise another image could take the place of the recorded one, unseen."""
    remember_digests({"a/tool:1": DIGEST})
    digests_file().write_text("{", encoding="utf-8")
    with pytest.raises(LabError, match="damaged"):
        known_digest("a/tool:1")


def test_a_digest_that_is_known_is_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is asked for by its digest; the versions file's comes first, and a variable names another image."""
    monkeypatch.delenv("LAB_IMAGE_POSTGRES", raising=False)
    assert images.image("postgres") == "postgres:16"
    remember_digests({"postgres:16": DIGEST, "apache/kafka:4.3.1": DIGEST})
    assert images.image("postgres") == f"postgres:16@{DIGEST}"
    assert images.pinned("kafka") == f"apache/kafka:4.3.1@{images.VERSIONS['images']['kafka']['digest']}"
    monkeypatch.setenv("LAB_IMAGE_POSTGRES", "lab-standin/postgres:16.14")
    assert images.image("postgres") == "lab-standin/postgres:16.14"


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
