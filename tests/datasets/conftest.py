from __future__ import annotations

import shutil
from pathlib import Path

import pytest

DATASETS = Path(__file__).resolve().parents[2] / "datasets"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Return a copy of the datasets that a test may spoil."""
    return shutil.copytree(DATASETS, tmp_path / "datasets")
