"""Grafana's dashboards match their source and are complete."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import yaml

from labstack.errors import ProgramMissing
from labstack.observability.grafana import FOLDER, files, home

with warnings.catch_warnings():  # Grafana's files need the schema that its library deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from tools import make_dashboards

VALUES = {
    "HOST": "127.0.0.1",
    "PORT": 3000,
    "PUBLISHED": 3001,
    "HOME": "/h",
    "DATA": "/d",
    "BASE": "",
    "PROMETHEUS": "http://p",
    "JAEGER": "http://j",
    "TRACES": "http://127.0.0.1:16686",
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
    """Every data source that a panel names by its uid is provisioned, and an exemplar links to Jaeger's own page."""
    provisioned = yaml.safe_load(files(VALUES)["provisioning/datasources/lab.yaml"])["datasources"]
    uids = {source["uid"] for source in provisioned}
    used = {
        panel["datasource"]["uid"]
        for board in BOARDS
        for panel in json.loads(make_dashboards.build(BOARDS[board]))["panels"]
    }
    assert used <= uids
    links = [source["jsonData"].get("exemplarTraceIdDestinations") for source in provisioned if "jsonData" in source]
    assert links == [[{"name": "trace_id", "url": "http://127.0.0.1:16686/trace/$${__value.raw}"}]]


def test_a_lab_without_jaeger_provisions_no_jaeger() -> None:
    """Without Jaeger, there is neither its data source nor a link to it."""
    (source,) = yaml.safe_load(files({**VALUES, "JAEGER": ""})["provisioning/datasources/lab.yaml"])["datasources"]
    assert source["uid"] == "prometheus"
    assert "exemplarTraceIdDestinations" not in source["jsonData"]


def test_the_root_url_has_the_port_that_a_browser_uses() -> None:
    """Grafana's links name the published port, not the port in the container."""
    assert "root_url = http://localhost:3001/" in files(VALUES)["grafana.ini"]


@pytest.mark.parametrize(
    ("program", "pages"),
    [("bin/grafana", "."), ("bin/grafana", "share/grafana")],
    ids=["release archive", "Homebrew"],
)
def test_grafanas_pages_are_found(tmp_path: Path, program: str, pages: str) -> None:
    """Grafana's own pages are found for each way to install it; without them, the error names the folders."""
    with pytest.raises(ProgramMissing, match="its pages are in none of"):
        home(tmp_path / program)
    (tmp_path / pages / "conf").mkdir(parents=True)
    (tmp_path / pages / "conf" / "defaults.ini").touch()
    assert home(tmp_path / program) == tmp_path / pages


@pytest.mark.parametrize("board", BOARDS)
def test_numbers_are_red_only_where_something_is_wrong(board: str) -> None:
    """Every number has explicit thresholds, since Grafana's default is red from 80, and counts have no decimals."""
    for panel in json.loads(make_dashboards.build(BOARDS[board]))["panels"]:
        if panel["type"] == "stat":
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None
            assert 80 not in [step["value"] for step in steps]
            assert ("increase" not in panel["targets"][0]["expr"]) or panel["fieldConfig"]["defaults"]["decimals"] == 0


@pytest.mark.parametrize("board", BOARDS)
def test_charts_mark_alerts_and_faults(board: str) -> None:
    """Each dashboard marks the moments of alerts, of fault switches, and of components that are down."""
    annotations = json.loads(make_dashboards.build(BOARDS[board]))["annotations"]["list"]
    queries = {one["expr"] for one in annotations}
    assert queries == {'ALERTS{alertstate="firing"}', "fault_switch_active", "up == 0"}
