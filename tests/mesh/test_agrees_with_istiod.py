"""The translator compared with a real istiod, if one is available."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstack.istio.documents import load
from labstack.istio.translate import translate
from tests.mesh.fuzz import comparable, configuration, disagreements
from tests.mesh.istiod import Istiod, find_istiod
from tests.services.luck import SEED

CASES = sorted((Path(__file__).parent / "cases").iterdir())
PROGRAM = find_istiod()
# The short run uses the seeds of the day; the long run always uses the same thousand seeds.
SEEDS = range(1000) if os.environ.get("SAGA_LAB_LONG") else range(SEED, SEED + 60)

pytestmark = [
    pytest.mark.skipif(
        PROGRAM is None,
        reason="no istiod here: set LAB_ISTIOD or run `lab install istiod`; the translator is NOT compared",
    ),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def istiod() -> Iterator[Istiod]:
    """Run one istiod for all tests of this module."""
    assert PROGRAM is not None
    with Istiod(PROGRAM) as running:
        yield running


@pytest.mark.long
def test_random_configurations_translate_as_in_istiod(istiod: Istiod) -> None:
    """The translator and istiod generate the same resources for each random configuration."""
    wrong = {number: "\n".join(lines[:40]) for number, lines in disagreements(SEEDS, istiod) if lines}
    assert not wrong, f"seeds {list(wrong)} of {SEEDS}; first: {next(iter(wrong.values()))}"


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_answers_match_istiod(case: Path, istiod: Istiod) -> None:
    """The recorded answer of each case equals istiod's current answer."""
    answer = istiod.generate((case / "input.yaml").read_text()).to_json()
    assert answer == {kind: json.loads((case / f"{kind}.json").read_text()) for kind in answer}


@pytest.mark.long
def test_different_configurations_do_not_compare_as_equal(istiod: Istiod) -> None:
    """The resources of two different configurations do not compare as equal."""
    ours = comparable(translate(load(configuration(1))).to_json())
    theirs = comparable(istiod.generate(configuration(2)).to_json())
    assert ours != theirs


def test_seed_always_generates_the_same_configuration() -> None:
    """A seed always generates the same configuration."""
    assert configuration(7) == configuration(7)
    assert configuration(7) != configuration(8)
