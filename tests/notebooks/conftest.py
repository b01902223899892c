from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Return each notebook's path in turn."""
    notebook: Path = request.param
    return notebook


@pytest.fixture
def notebook(path: Path) -> Any:
    """Return the notebook as it is saved."""
    return nbformat.read(path, as_version=4)
