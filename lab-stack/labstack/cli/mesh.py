"""`lab mesh apply | show | diff | reset | routes | log`: the commands for the mesh of a running lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from labstack.cli.printing import COUNT, as_json, console

if TYPE_CHECKING:
    from labstack.lab import Lab

COLUMNS = {
    "method": "method",
    "path": "path",
    "response_code": "code",
    "response_flags": "flags",
    "duration": "ms",
    "attempts": "tries",
    "route_name": "route",
    "service_version": "version",
}
"""Fields of the access log in a table, with their column titles."""


@click.command()
@click.argument("file")
@click.option(
    "--force",
    is_flag=True,
    help="Apply resources even if they refer to a missing host, subset or gateway, to see the effect.",
)
@as_json
@click.pass_obj
def apply(lab: Lab, file: str, force: bool, as_json: bool) -> None:
    """Apply the Istio resources in FILE (- for standard input).

    The command returns when the gateway uses them.
    """
    applied = lab.mesh.apply(Path(file), force=force)
    for warning in applied.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps({"changes": applied.changes, "control_plane": applied.control_plane}))
        return
    for name, change in applied.changes.items():
        click.echo(f"{name} {change}")


@click.command()
@click.argument("name", required=False)
@click.pass_obj
def show(lab: Lab, name: str | None) -> None:
    """Print the active resources as YAML: all, or one by KIND/NAME."""
    click.echo(lab.mesh.show(name), nl=False)


@click.command()
@click.pass_obj
def diff(lab: Lab) -> None:
    """Show the effect of the last change on Envoy's configuration.

    The output compares clusters, endpoints, listeners and routes, before and after.
    """
    click.echo(lab.mesh.diff() or "Envoy's configuration is the same as before the last change.")


@click.command()
@click.pass_obj
def reset(lab: Lab) -> None:
    """Restore the lab's own configuration."""
    lab.mesh.reset()
    click.echo("The gateway uses the lab's own configuration.")


@click.command()
@as_json
@click.pass_obj
def routes(lab: Lab, as_json: bool) -> None:
    """List Envoy's routes, in matching order."""
    found = lab.mesh.routes()
    if as_json:
        click.echo(json.dumps([route.to_json() for route in found]))
        return
    table = Table(box=None)
    for column in ("route", "hosts", "match", "to", "policy"):
        table.add_column(column, overflow="fold")
    for route in found:
        table.add_row(route.name, route.hosts, route.match, route.to, route.policy)
    console().print(table)
    click.echo(f"Configured by {lab.mesh.control_plane}.")


@click.command()
@click.option("-n", "--lines", type=COUNT, default=20, show_default=True, help="Number of requests.")
@as_json
@click.pass_obj
def log(lab: Lab, lines: int, as_json: bool) -> None:
    """Show the gateway's last requests, with Envoy's response flags."""
    entries = lab.mesh.access_log(lines)
    if as_json:
        click.echo(json.dumps(entries))
        return
    table = Table(box=None)
    for column in COLUMNS.values():
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(*("" if entry.get(field) is None else str(entry[field]) for field in COLUMNS))
    console().print(table)


VERBS = (apply, show, diff, reset, routes, log)
