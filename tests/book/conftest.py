from __future__ import annotations

from pathlib import Path

import pytest

from tests.book.site import Site
from tools.make_book import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """Build the book once for all tests; return Sphinx's exit status, and the folder."""
    folder = tmp_path_factory.mktemp("book") / "book"
    return build(folder), folder


@pytest.fixture(scope="session")
def site(built: tuple[int, Path]) -> Site:
    """Return the book's parsed pages."""
    return Site.read(built[1])
