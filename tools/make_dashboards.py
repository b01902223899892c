#!/usr/bin/env python3
"""Write Grafana's dashboards, lab-stack/grafana/dashboards/*.json, from their descriptions in tools/dashboards.py.

    python tools/make_dashboards.py            write them
    python tools/make_dashboards.py --check    write nothing; exit status 1 if one would change

What all dashboards have in common stands here once. The classic schema is written, which file provisioning reads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, LineInterpolation, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    GridPos,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.dashboard import FieldColor as Colour
from grafana_foundation_sdk.models.dashboard import FieldColorModeId as ColourMode

from labkit.views.drawing.colours import BLUE, GREY, ORANGE, SERVICES, VERMILION
from tools.dashboards import BOARDS, Board, Panel

FOLDER = Path(__file__).resolve().parents[1] / "lab-stack" / "grafana" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDE = 24


def build(board: Board) -> str:
    """Return a dashboard as JSON."""
    made = (
        builder.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["saga-lab"])
        .time("now-5m", "now")
        .refresh("5s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotation(_annotation("Alerts", 'ALERTS{alertstate="firing"}', "{{alertname}}", VERMILION))
        .annotation(_annotation("Fault switches", "fault_switch_active", "{{service}}: {{switch}}", ORANGE))
        .annotation(_annotation("Components that are down", "up == 0", "{{job}} {{service}} is down", GREY))
        .link(
            builder.DashboardLink("The other dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["saga-lab"])
            .as_dropdown(True)
            .placement("")
            .include_vars(True)
            .keep_time(True)
        )
    )
    y = number = 0
    for row in board.rows:
        width = WIDE // len(row.panels)
        for place, panel in enumerate(row.panels):
            number += 1
            position = GridPos(h=row.height, w=width, x=place * width, y=y)
            made = made.with_panel(_panel(panel).id(number).grid_pos(position))
        y += row.height
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _annotation(name: str, query: str, title: str, colour: str) -> builder.AnnotationQuery:
    """Return the marks that a dashboard's charts show while a query has results."""
    return (
        builder.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .icon_color(colour)
        .expr(query)
        .step("1s")
        .title_format(title)
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel:
    made = _number(panel) if panel.number else _chart(panel)
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    made = made.title(panel.title).description(panel.description).unit(panel.unit).datasource(SOURCE).min(0)
    for letter, (legend, expression) in zip("ABCDEF", panel.queries.items(), strict=False):
        made = made.with_target(
            prometheus.Dataquery()
            .ref_id(letter)
            .expr(expression)
            .legend_format(legend)
            .exemplar(panel.exemplars)
            .range()
        )
    return made


def _number(panel: Panel) -> stat.Panel:
    steps = [
        Threshold(value=None, color=BLUE),
        *(Threshold(value=value, color=colour) for value, colour in panel.steps),
    ]
    return stat.Panel().thresholds(builder.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


def _chart(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(8)
        .line_interpolation(LineInterpolation.LINEAR)
        .show_points(VisibilityMode.NEVER)
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull"])
        )
    )
    services = {f".*{service}.*": colour for service, colour in SERVICES.items()}
    for legend, colour in {**services, **panel.colours}.items():
        fixed = Colour(mode=ColourMode.FIXED, fixed_color=colour)
        made = made.override_by_regexp(legend, [DynamicConfigValue(id_val="color", value=fixed)])
    for legend, style in panel.dashes.items():
        line = {"fill": style, "dash": [10, 8] if style == "dash" else [2, 6]}
        made = made.override_by_regexp(legend, [DynamicConfigValue(id_val="custom.lineStyle", value=line)])
    return made


def main() -> int:
    """Run the command line, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if something would change")
    arguments = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    changed = [b for b in BOARDS if not _file(b).exists() or _file(b).read_text(encoding="utf-8") != build(b)]
    for board in changed:
        print(f"{_file(board).name}: changed")
        if not arguments.check:
            _file(board).write_text(build(board), encoding="utf-8")
    return 1 if changed and arguments.check else 0


def _file(board: Board) -> Path:
    return FOLDER / f"{board.uid}.json"


if __name__ == "__main__":
    sys.exit(main())
