"""`lab scenario`: show failures live, prove them, and heal them."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import groupby
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from labstack.cli.printing import Commands, as_json, console

if TYPE_CHECKING:
    from labstack.lab import Lab
    from labstack.scenarios import Scenario, ScenarioReport


@click.group(cls=Commands)
def scenario() -> None:
    """Show a failure live: inject it, prove it, heal it, prove the healing."""


@scenario.command("list")
@as_json
def list_scenarios(as_json: bool) -> None:
    """List all scenarios; the lab need not run."""
    from labstack.scenarios import load_scenarios

    scenarios = load_scenarios().values()
    if as_json:
        click.echo(json.dumps([one.to_json() for one in scenarios]))
        return
    table = Table(box=None, padding=(0, 1))
    for column in ("scenario", "min", "title"):
        table.add_column(column, justify="right" if column == "min" else "left", overflow="fold")
    for chapter, ones in groupby(scenarios, key=lambda one: one.chapter):
        table.add_row(Text(chapter, style="bold"), "", "")
        for one in ones:
            table.add_row(f"  {one.name}", str(one.minutes), one.title)
    console().print(table)


@scenario.command("show")
@click.argument("name")
@as_json
def show_scenario(name: str, as_json: bool) -> None:
    """Show a scenario: its story, speaker notes and steps; the lab need not run."""
    from labstack.scenarios import load_scenario

    found = load_scenario(name)
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    click.echo(as_text(found))


def as_text(scenario: Scenario) -> str:
    """Return a scenario as text: its story, speaker notes, and steps."""
    from labstack.scenarios.player import FINAL_CONDITIONS

    parts = [f"{scenario.title} ({scenario.minutes} minutes; notebook {scenario.notebook})", "", scenario.story]
    for title, lines in {
        "Say": scenario.say,
        "Watch": scenario.watch,
        "Inject": scenario.inject,
        "Proof": scenario.proof,
        "Heal": scenario.heal,
        "Healed": (*scenario.healed, FINAL_CONDITIONS),
    }.items():
        parts += ["", title, *("  - " + str(line).replace("\n", "\n    ") for line in lines)]
    return "\n".join(parts)


@scenario.command("run")
@click.argument("name")
@click.option("--heal", is_flag=True, help="Heal the scenario as soon as it is proved.")
@as_json
@click.pass_obj
def run_scenario(lab: Lab, name: str, heal: bool, as_json: bool) -> None:
    """Inject a scenario's fault, and return when its effect is proved.

    The fault stays until the scenario is healed. The exit status is 1 if the fault had no effect.
    """
    from labstack.scenarios import Player, load_scenario

    found = load_scenario(name)
    player = Player(lab, _step_printer(as_json))
    reports = {"run": player.run(found)}
    if heal:
        reports["heal"] = player.heal()
    _print(
        reports,
        as_json,
        f"Proved. Watch: {'; '.join(found.watch)}." + ("" if heal else " Then run `lab scenario heal`."),
    )


@scenario.command("heal")
@as_json
@click.pass_obj
def heal_scenario(lab: Lab, as_json: bool) -> None:
    """Heal the active scenario, and prove that no effect is left.

    The exit status is 1 if an effect is left.
    """
    from labstack.scenarios import Player

    reports = {"heal": Player(lab, _step_printer(as_json)).heal()}
    _print(reports, as_json, "Healed: every component is ready, an order completes, every invariant holds.")


def _step_printer(quiet: bool) -> Callable[[str], None]:
    return lambda words: click.echo(f"  {words}", err=quiet)


def _print(reports: dict[str, ScenarioReport], as_json: bool, words: str) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    name: {"scenario": report.scenario, "seconds": round(report.seconds, 2), "steps": report.steps}
                    for name, report in reports.items()
                }
            )
        )
    else:
        click.echo(words)
