"""Grafana's dashboards match their source and are complete."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml

from labstack.observability.grafana import FOLDER, files

with warnings.catch_warnings():  # Grafana's files need the schema that its library deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from tools import make_dashboards

VALUES = {
    "HOST": "127.0.0.1",
    "PORT": 3000,
    "HOME": "/h",
    "DATA": "/d",
    "BASE": "",
    "PROMETHEUS": "http://p",
    "JAEGER": "http://j",
}
BOARDS = {board.uid: board for board in make_dashboards.BOARDS}


@pytest.mark.parametrize("path", sorted((FOLDER / "dashboards").glob("*.json")), ids=lambda path: path.stem)
def test_dashboard_matches_its_source(path: Path) -> None:
    """The committed file equals the output of `python tools/make_dashboards.py`."""
    assert path.read_text(encoding="utf-8") == make_dashboards.build(BOARDS[path.stem])


def test_every_dashboard_has_a_file() -> None:
    """Each dashboard definition has a file, and each file a definition."""
    assert {path.stem for path in (FOLDER / "dashboards").glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize("board", BOARDS)
def test_panels_are_unique_and_do_not_overlap(board: str) -> None:
    """Each panel has a unique id, a title, a description, and a position without overlap."""
    panels = json.loads((FOLDER / "dashboards" / f"{board}.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        position = panel["gridPos"]
        own_cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not own_cells & cells
        assert position["x"] + position["w"] <= 24
        cells |= own_cells
        assert len(panel["description"]) > 20
        assert all(target["expr"] for target in panel["targets"])


def test_every_data_source_in_use_is_provisioned() -> None:
    """Every data source that a panel or an exemplar's link names by its uid is provisioned."""
    provisioned = yaml.safe_load(files(VALUES)["provisioning/datasources/lab.yaml"])["datasources"]
    uids = {source["uid"] for source in provisioned}
    used = {
        panel["datasource"]["uid"]
        for board in BOARDS
        for panel in json.loads(make_dashboards.build(BOARDS[board]))["panels"]
    }
    linked = {
        one["datasourceUid"]
        for source in provisioned
        for one in source.get("jsonData", {}).get("exemplarTraceIdDestinations", [])
    }
    assert used | linked <= uids
    assert linked == {"jaeger"}
