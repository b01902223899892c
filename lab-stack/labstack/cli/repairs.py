"""`lab dead-letters`, `lab outbox` and `lab switch`: inspect failures, repair them, or cause them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from labstack.cli.printing import as_json, running

if TYPE_CHECKING:
    from labstack.lab import Lab


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at the records that services have given up, and send them back."""


@dead_letters.command("list")
@as_json
@click.pass_obj
def list_dead_letters(lab: Lab, as_json: bool) -> None:
    """List all dead letters."""
    letters = running(lab).dead_letters()
    if as_json:
        click.echo(json.dumps([letter.to_json() for letter in letters]))
    elif not letters:
        click.echo("There are no dead letters.")
    else:
        for letter in letters:
            what = f"{letter.type or 'a record without a type'}, {letter.attempts} attempts, {letter.behind} behind it"
            click.echo(f"{letter.id}  order {letter.order_id}: {what}\n    {letter.error[:300]}")


@dead_letters.command("show")
@click.argument("letter")
@as_json
@click.pass_obj
def show_dead_letter(lab: Lab, letter: str, as_json: bool) -> None:
    """Show one dead letter with all that is known of it."""
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
    """Send a dead letter back to the service that gave it up; exit status 1 if it fails again."""
    if again := running(lab).replay(letter):
        click.echo(f"{letter} failed again, {again.attempts} times: {again.error}", err=True)
        sys.exit(1)
    click.echo(f"{letter} was handled; what was parked behind it follows.")


@dead_letters.command("discard")
@click.argument("letter")
@click.pass_obj
def discard(lab: Lab, letter: str) -> None:
    """Drop a dead letter for good, so that what is parked behind it follows."""
    running(lab).discard(letter)
    click.echo(f"{letter} is dropped; what was parked behind it follows.")


@click.group()
def outbox() -> None:
    """Mend what a lost replication slot took."""


@outbox.command()
@click.argument("order")
@click.pass_obj
def resend(lab: Lab, order: str) -> None:
    """Let every event of an order come once more, with its own id: the inboxes stop what was handled already."""
    for service, rows in running(lab).resend(order).items():
        click.echo(f"{service}: {rows} events come again")


@click.group()
def switch() -> None:
    """Make a service do something wrong on purpose, to see what it is for. `lab reset` turns all off."""


@switch.command("list")
@as_json
@click.pass_obj
def list_switches(lab: Lab, as_json: bool) -> None:
    """List the switches, and where they are on."""
    from labservices.settings import SWITCHES

    on = lab.switches
    if as_json:
        click.echo(json.dumps({"switches": {name: one.does for name, one in SWITCHES.items()}, "on": on}))
        return
    table = Table(box=None)
    for column in ("switch", "what happens then", "values", "on in"):
        table.add_column(column, overflow="fold")
    for name, one in SWITCHES.items():
        table.add_row(name, one.does, one.example, ", ".join(s for s, there in on.items() if name in there))
    Console().print(table)


@switch.command("on")
@click.argument("service")
@click.argument("what", metavar="SWITCH[=VALUE]")
@click.pass_obj
def switch_on(lab: Lab, service: str, what: str) -> None:
    """Turn a switch of a service on, and restart the service."""
    name, _, value = what.partition("=")
    lab.switch_on(service, name, value)
    click.echo(f"{service} runs with {what}.")


@switch.command("off")
@click.argument("service")
@click.argument("what", metavar="[SWITCH]", required=False)
@click.pass_obj
def switch_off(lab: Lab, service: str, what: str | None) -> None:
    """Turn a switch of a service off, or all of them, and restart the service."""
    lab.switch_off(service, what)
    click.echo(f"{service} runs without {what or 'any switch'}.")
