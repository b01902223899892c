"""`lab status`, `lab logs` and `lab psql`: inspect the lab; and `lab completion`, for the shell."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class
from rich.live import Live

from labstack.cli.printing import COUNT, as_json, console, running, show_status, status_view
from labstack.errors import LabError, UnknownComponent, one_of

if TYPE_CHECKING:
    from labstack.lab import Lab

REFRESH_INTERVAL = 1.0
"""Refresh interval of ``lab status --watch``, in seconds."""

SHELLS = ("bash", "zsh", "fish")


class ComponentName(click.ParamType):
    """The name of a component, with shell completion."""

    name = "component"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; raise `UnknownComponent` if the lab has no such component, whether or not it runs."""
        if ctx:
            from labstack.lab import access_of

            access_of(ctx.obj).backend().component(value)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the component names that start with `incomplete`; none if the lab's state can't be read."""
        from labstack.lab import Lab, access_of

        with contextlib.suppress(LabError):
            return _items(access_of(Lab(ctx.find_root().params.get("name"))).backend().components(), incomplete)
        return []


class ServiceName(click.ParamType):
    """The name of one of the four services, with shell completion."""

    name = "service"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the service names that start with `incomplete`."""
        from labstack.config.services import load_services

        return _items((service.name for service in load_services()), incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command()
@as_json
@click.option("-w", "--watch", is_flag=True, help="Refresh the table every second, until Ctrl-C.")
@click.pass_obj
def status(lab: Lab, as_json: bool, watch: bool) -> None:
    """Show each component: its state, memory, address and problems."""
    if not watch:
        show_status(lab.status(), as_json)
        return
    if as_json:
        raise click.UsageError("--watch shows a table; to poll with --json, run the command repeatedly.")
    with Live(status_view(lab.status()), console=console(), auto_refresh=False) as live:
        while True:
            time.sleep(REFRESH_INTERVAL)
            live.update(status_view(lab.status()), refresh=True)


@click.command()
@click.argument("name", type=ComponentName())
@click.option("-n", "--lines", type=COUNT, default=40, show_default=True, help="Number of lines.")
@click.option("-f", "--follow", is_flag=True, help="Then show new lines, until Ctrl-C.")
@click.pass_obj
def logs(lab: Lab, name: str, lines: int, follow: bool) -> None:
    """Show the end of a component's log."""
    if text := lab.logs(name, lines):
        click.echo(text)
    if follow:
        from labstack.lab import access_of

        for line in access_of(lab).backend().follow(name):
            click.echo(line)


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("service", type=ServiceName())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def psql(lab: Lab, service: str, arguments: tuple[str, ...]) -> None:
    """Open psql on a service's database.

    psql gets all arguments after the service: `lab psql order -c 'TABLE outbox'`.
    """
    from labstack.backends.processes.components.postgres import programs
    from labstack.clients.databases import libpq_variables

    databases = running(lab).endpoints.databases
    if service not in databases:
        raise UnknownComponent(
            f"Unknown service {service!r}: it has no database.", next_step=one_of(service, databases)
        )
    program = programs() / "psql"
    # The user's libpq settings (PG*) must not redirect the connection.
    own = {name: value for name, value in os.environ.items() if name not in libpq_variables()}
    os.execve(program, [str(program), databases[service], *arguments], own)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a script for the completion of commands, options and names.

    For bash, add this line to ~/.bashrc: eval "$(lab completion bash)"
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "lab", "_LAB_COMPLETE").source())
