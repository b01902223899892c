"""`lab run`: run one service in this terminal."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from labstack.cli.looking import ServiceName
from labstack.process_id import ProcessId

if TYPE_CHECKING:
    from labstack.lab import Lab


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("service", type=ServiceName())
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(lab: Lab, service: str, command: tuple[str, ...]) -> None:
    """Run a service in this terminal, for example under a debugger.

    The lab's own process of the service stops first, and starts again at the end. The COMMAND gets the service's
    settings and its port; the default is `python -m labservices SERVICE`: `lab run order python -m pdb -m labservices
    order`.
    """
    from labstack.lab import access_of

    access = access_of(lab)
    with access.changing() as backend:
        child = backend.launch_here(service, command)
        identity = ProcessId.of(child.pid)
    # The terminal sends Ctrl-C to both processes. This one waits, as a debugger may use Ctrl-C for something else.
    signal.signal(signal.SIGINT, lambda *_: None)
    for which in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(which, lambda *_: child.terminate())
    click.echo(f"{service} runs in this terminal. When it ends, the lab starts its own process again.", err=True)
    status = child.wait()
    with access.exclusive() as backend:  # a command that stops the service records this before it releases the lock
        record = backend.state.components.get(service)
        if backend.state.is_up and record and record.process == identity:
            lab.start(service)
            click.echo(f"The lab runs {service} again.", err=True)
    sys.exit(status if status >= 0 else 128 - status)
