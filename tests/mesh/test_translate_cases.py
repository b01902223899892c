"""The translator compared with recorded answers of a real istiod."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labstack.istio.documents import read
from labstack.istio.translate import translate

CASES = sorted((Path(__file__).parent / "cases").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", ["clusters", "endpoints", "listeners", "routes"])
def test_translation_equals_the_recorded_answer(case: Path, kind: str) -> None:
    """Each resource equals the one that istiod 1.29.1 generated for the case, in the same order."""
    made = translate(read(case / "input.yaml")).to_json()
    assert made[kind] == json.loads((case / f"{kind}.json").read_text())
