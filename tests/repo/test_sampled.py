from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., set[str]]
ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.sampled
@pytest.mark.parametrize("number", range(7))
def test_long(number): pass

def test_short(): pass
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    shutil.copy(ROOT / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = sampled\n")
    (tmp_path / "test_some.py").write_text(TESTS)

    def run(**environment: str) -> set[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SAGA_LAB_")}
        kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
        done = subprocess.run(command, env=kept | environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
        return set(re.findall(r"::(\S+) PASSED", done.stdout))

    return run


def test_every_sampled_test_has_its_turn(run: Run) -> None:
    """Three seeds in a row run each sampled test once between them, and what isn't sampled each time."""
    turns = [run(SAGA_LAB_CHECK="1", SAGA_LAB_SEED=str(seed)) for seed in (739946, 739947, 739948)]
    assert all("test_short" in turn and 2 <= len(turn - {"test_short"}) <= 3 for turn in turns)
    assert sum(len(turn) - 1 for turn in turns) == len(set.union(*turns)) - 1 == 7


def test_by_hand_and_in_the_long_form_all_run(run: Run) -> None:
    """Nothing is left out where nobody asked for a sample."""
    assert len(run()) == len(run(SAGA_LAB_CHECK="1", SAGA_LAB_SEED="4", SAGA_LAB_LONG="1")) == 8
