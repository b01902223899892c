"""A notebook about a cluster, on a machine without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import begin
from labkit.cluster import SKIPPED, is_on_cluster
from labkit.errors import KitError
from labkit.skipping import SkippedCell
from labstack import Lab
from labstack.config.paths import LabPaths


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Return a lab that was never started, without a requested mode."""
    monkeypatch.delenv("LAB_MODE", raising=False)
    return Lab(paths=LabPaths(tmp_path, tmp_path / "cache"))


def test_a_notebook_on_a_cluster_starts_no_local_lab(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a cluster, the first cell only prints that the notebook is skipped, and what to do."""
    begin("14", lab)
    assert capsys.readouterr().out.startswith(f"{SKIPPED}\n")
    assert lab.status(memory=False).state == "stopped"


def test_an_exercise_on_a_cluster_names_what_is_missing(lab: Lab) -> None:
    """An exercise that needs a cluster raises an error with the next step, and can still be left untouched."""
    tasks = begin("14", lab).tasks
    assert tasks.check("a-slot-that-survives").outcome == "untouched"
    with pytest.raises(KitError, match="No cluster is attached") as caught:
        tasks.check("a-slot-that-survives", "SELECT 1")
    assert "LAB_MODE=kubernetes" in caught.value.next_step


def test_a_lab_that_is_down_is_on_the_requested_backend(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAB_MODE decides for a lab that is down."""
    assert not is_on_cluster(lab)
    monkeypatch.setenv("LAB_MODE", "kubernetes")
    assert is_on_cluster(lab)


def test_each_cell_but_the_first_is_replaced() -> None:
    """A cell prints the sentence only, whatever it contains; the cell that attaches still runs."""
    skip = SkippedCell(SKIPPED)
    assert skip(["%%bash\n", "kubectl delete pods --all\n"]) == [f"print({SKIPPED!r})\n"]
    attaching = ["from labkit import begin\n", 'lab, shop, look, tasks = begin("14")\n']
    assert skip(attaching) == attaching
