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

PLACES = {
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
def test_it_is_what_its_source_makes(path: Path) -> None:
    """The committed file equals the output of `python tools/make_dashboards.py`."""
    assert path.read_text(encoding="utf-8") == make_dashboards.build(BOARDS[path.stem])


def test_all_are_there() -> None:
    """Each dashboard definition has a file, and each file a definition."""
    assert {path.stem for path in (FOLDER / "dashboards").glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize("board", BOARDS)
def test_panels_are_told_apart(board: str) -> None:
    """Each panel has a unique id, a title, a description, and a position without overlap."""
    panels = json.loads((FOLDER / "dashboards" / f"{board}.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells
        assert place["x"] + place["w"] <= 24
        cells |= mine
        assert len(panel["description"]) > 20
        assert all(target["expr"] for target in panel["targets"])


def test_data_sources_are_those_that_panels_ask() -> None:
    """Every data source that a panel or an exemplar's link names by its uid is provisioned."""
    provisioned = yaml.safe_load(files(PLACES)["provisioning/datasources/lab.yaml"])["datasources"]
    uids = {source["uid"] for source in provisioned}
    asked = {
        panel["datasource"]["uid"]
        for board in BOARDS
        for panel in json.loads(make_dashboards.build(BOARDS[board]))["panels"]
    }
    linked = {
        one["datasourceUid"]
        for source in provisioned
        for one in source.get("jsonData", {}).get("exemplarTraceIdDestinations", [])
    }
    assert asked | linked <= uids
    assert linked == {"jaeger"}
