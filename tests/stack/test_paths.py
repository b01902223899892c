"""Concurrent writes to the lab's files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labstack.config.paths import writable_folder, write_atomically


def test_concurrent_writes_of_a_file_all_succeed(tmp_path: Path) -> None:
    """Eight threads that check one folder and write one file all succeed, and each reads one complete text."""
    texts = [f"{number}" * 5000 for number in range(8)]

    def work(text: str) -> str:
        for _ in range(100):
            write_atomically(writable_folder(tmp_path) / "file", text)
        return (tmp_path / "file").read_text(encoding="utf-8")

    with ThreadPoolExecutor(len(texts)) as pool:
        seen = list(pool.map(work, texts))
    assert set(seen) <= set(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
