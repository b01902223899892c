"""`lab dead-letters`, `lab outbox` and `lab switch`: inspect failures, repair them, or cause them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
from rich.table import Table

from labstack.cli.printing import Commands, as_json, console, running

if TYPE_CHECKING:
    from labstack.lab import Lab


@click.group("dead-letters", cls=Commands)
def dead_letters() -> None:
    """List, inspect, replay or discard dead-lettered records."""


@dead_letters.command("list")
@as_json
@click.pass_obj
def list_dead_letters(lab: Lab, as_json: bool) -> None:
    """List all dead letters."""
    letters = running(lab).dead_letters.all()
    if as_json:
        click.echo(json.dumps([letter.to_json() for letter in letters]))
    elif not letters:
        click.echo("No dead letters.")
    else:
        for letter in letters:
            what = f"{letter.type or 'a record without a type'}, {letter.attempts} attempts, {letter.behind} behind it"
            click.echo(f"{letter.id}  order {letter.order_id}: {what}\n    {letter.error[:300]}")


@dead_letters.command("show")
@click.argument("letter")
@as_json
@click.pass_obj
def show_dead_letter(lab: Lab, letter: str, as_json: bool) -> None:
    """Show one dead letter with all its fields."""
    from labstack.consistency.dead_letters import find

    found = find(running(lab).endpoints, letter).to_json()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        for key, text in value.items() if isinstance(value, dict) else [("", value)]:
            click.echo(f"{name + ' ' + key if key else name:<24} {text}")


@dead_letters.command("replay")
@click.argument("letter")
@click.pass_obj
def replay(lab: Lab, letter: str) -> None:
    """Send a dead letter back to its service.

    The exit status is 1 if it fails again.
    """
    if again := running(lab).dead_letters.replay(letter):
        click.echo(f"{letter} failed again, {again.attempts} times: {again.error}", err=True)
        sys.exit(1)
    click.echo(f"{letter} was handled; the records parked behind it follow.")


@dead_letters.command("discard")
@click.argument("letter")
@click.pass_obj
def discard(lab: Lab, letter: str) -> None:
    """Discard a dead letter for good; the records parked behind it follow."""
    running(lab).dead_letters.discard(letter)
    click.echo(f"{letter} is discarded; the records parked behind it follow.")


@click.group(cls=Commands)
def outbox() -> None:
    """Publish an order's events again.

    A lost replication slot, for example, drops the events that Debezium has not read.
    """


@outbox.command()
@click.argument("order")
@click.pass_obj
def resend(lab: Lab, order: str) -> None:
    """Publish every event of an order again, with the same ids.

    The inboxes discard events that they have already handled.
    """
    for service, rows in running(lab).resend(order).items():
        click.echo(f"{service}: {rows} events were published again")


@click.group(cls=Commands)
def switch() -> None:
    """List the fault switches of the services, and turn them on or off.

    A fault switch makes a service misbehave on purpose, to show what the correct code is for. `lab reset` turns all
    switches off.
    """


@switch.command("list")
@as_json
@click.pass_obj
def list_switches(lab: Lab, as_json: bool) -> None:
    """List the fault switches, and the services in which they are on."""
    from labservices.settings import FAULT_SWITCHES

    active = lab.faults.active
    if as_json:
        click.echo(json.dumps({"switches": {name: one.does for name, one in FAULT_SWITCHES.items()}, "on": active}))
        return
    table = Table(box=None)
    for column in ("switch", "effect", "values", "on in"):
        table.add_column(column, overflow="fold")
    for name, one in FAULT_SWITCHES.items():
        table.add_row(name, one.does, one.example, ", ".join(s for s, switches in active.items() if name in switches))
    console().print(table)


@switch.command("on")
@click.argument("service")
@click.argument("what", metavar="SWITCH[=VALUE]")
@click.pass_obj
def switch_on(lab: Lab, service: str, what: str) -> None:
    """Turn a fault switch of a service on, and restart the service unless it is stopped."""
    name, _, value = what.partition("=")
    lab.faults.on(service, name, value)
    click.echo(f"{service} runs with {what}.")


@switch.command("off")
@click.argument("service")
@click.argument("what", metavar="[SWITCH]", required=False)
@click.pass_obj
def switch_off(lab: Lab, service: str, what: str | None) -> None:
    """Turn off a fault switch of a service, or all, and restart the service unless it is stopped."""
    lab.faults.off(service, what)
    click.echo(f"{service} runs without {what or 'any fault switch'}.")
