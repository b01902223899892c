"""The `lab` command: the verbs of `Lab` as shell commands."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from operator import attrgetter
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from labstack.backends.choice import MODES
from labstack.cli.foreground import run
from labstack.cli.images import images, sweep
from labstack.cli.install import install_command
from labstack.cli.looking import ComponentName, completion, logs, psql, status
from labstack.cli.mesh import VERBS
from labstack.cli.mesh_objects import mesh
from labstack.cli.notebooks import notebooks
from labstack.cli.printing import (
    Commands,
    as_json,
    console,
    running,
    show_started,
    show_status,
    stages,
    startup_progress,
)
from labstack.cli.repairs import dead_letters, outbox, switch
from labstack.cli.scenarios import scenario
from labstack.errors import LabError

if TYPE_CHECKING:
    from labstack.lab import Lab

VERDICT_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


SECTIONS = {
    "Start and stop": ("up", "down", "reset", "start", "stop", "restart", "prefetch", "install"),
    "Inspect": ("status", "logs", "demo", "check", "doctor", "psql", "run"),
    "Break and repair": ("kill", "pause", "resume", "switch", "scenario", "dead-letters", "outbox"),
    "Gateway": ("mesh",),
    "Course, containers, shell": ("notebooks", "images", "sweep", "completion"),
}
"""The verbs, by section of the help text."""


AS_JSON = "labstack.as_json"
"""Key in the click context that says whether errors are printed as JSON, too."""


class LabGroup(Commands):
    """A command group that prints the lab's errors as messages, exits cleanly on Ctrl-C, and groups its verbs."""

    def main(self, *args: Any, **extra: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a character that the terminal can't show must not raise an error
                stream.reconfigure(errors="replace")
        os.umask(os.umask(0o077) & 0o077)  # the lab must be able to read its own files
        return super().main(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            if ctx.meta[AS_JSON]:
                body = {"error": error.problem, "kind": type(error).__name__, "next_step": error.next_step}
                click.echo(json.dumps({**body, "log": error.log}))
            else:
                console(stderr=True).print(Text(f"{error}", style="red"), soft_wrap=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            console(stderr=True).print("Interrupted; everything that this command started is stopped.")
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(70)) for name, one in commands if one])


INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    # Ignore further signals: a second Ctrl-C must not interrupt the cleanup after the first one.
    for which in INTERRUPTIONS:
        signal.signal(which, signal.SIG_IGN)
    raise KeyboardInterrupt


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", envvar="LAB_NAME", help="Name of the lab (default: LAB_NAME, else 'default').")
@click.option(
    "--mode", type=click.Choice(["auto", *MODES]), help="Backend for the next start (default: LAB_MODE, else auto)."
)
@click.version_option(package_name="saga-lab")
@click.pass_context
def main(ctx: click.Context, name: str | None, mode: str | None) -> None:
    """Run, inspect, break and repair a lab of four services, PostgreSQL, Debezium and Kafka."""
    # A closed terminal or a `kill` aborts a startup cleanly, as Ctrl-C does.
    for which in INTERRUPTIONS:
        # A command that was started with `nohup` outlives the terminal.
        if which == signal.SIGINT or signal.getsignal(which) != signal.SIG_IGN:
            signal.signal(which, _interrupt)
    from labstack.lab import Lab

    ctx.obj = Lab(name, mode=mode)


@main.command()
@as_json
@click.option("--no-observability", is_flag=True, help="Start without the observability components; download nothing.")
@click.pass_obj
def up(lab: Lab, as_json: bool, no_observability: bool) -> None:
    """Start all components that aren't running. They keep running after this command."""
    if no_observability:
        os.environ["LAB_OBSERVABILITY"] = "off"
    began = time.monotonic()
    with startup_progress(quiet=as_json) as listener:
        status = lab.up(listener)
    if status.healthy and not as_json:
        show_started(status, time.monotonic() - began)
    else:
        show_status(status, as_json)
    if not status.healthy:
        problems = "; ".join(f"{name}: {complaint}" for name, complaint in status.complaints.items())
        click.echo(f"The lab is not ready ({problems or status.state}). Next step: run `lab up` again.", err=True)
        sys.exit(1)


@main.command()
@as_json
@click.pass_obj
def demo(lab: Lab, as_json: bool) -> None:
    """Place orders, and show the outcome of each (with --json: one order)."""
    from labstack.scenarios.demo import demo_orders, follow, place, run_demo

    where = running(lab).endpoints
    if as_json:
        order = follow(where, place(where, demo_orders()[0])["order_id"])
        click.echo(json.dumps(order))
        return
    terminal = console()
    run_demo(where, lambda expected, story: _print_story(terminal, expected, story))


def _print_story(terminal: Console, expected: Any, story: Any) -> None:
    order = story.order
    items = ", ".join(f"{line['quantity']} x {line['sku']}" for line in order["items"])
    style = "green" if order["status"] == "COMPLETED" else "yellow"
    terminal.print(
        Text(expected.customer_id, style="bold").append(f" orders {items} to {expected.destination}", "default")
    )
    terminal.print(Text("   status   ").append(" → ".join(h["status"] for h in story.history), style=style))
    terminal.print(Text("   events   " + " → ".join(kind for _, kind in story.events)))
    if order["failure_reason"]:
        terminal.print(Text("   reason   ").append(order["failure_reason"], style=style))


@main.command()
@as_json
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    help="Seconds to wait until the lab is at rest.",
)
@click.pass_obj
def check(lab: Lab, as_json: bool, wait: float) -> None:
    """Check every invariant of the saga in databases and topics.

    The exit status is 1 if an invariant is violated.
    """
    verdicts = lab.check(wait)
    if as_json:
        keys = ("name", "holds", "figures", "offenders", "notes")
        click.echo(json.dumps([{key: getattr(verdict, key) for key in keys} for verdict in verdicts]))
    else:
        table = Table(box=None)
        for column in ("", "invariant", "figures"):
            table.add_column(column, overflow="fold")
        for verdict in verdicts:
            sign, style = {True: ("holds", "green"), False: ("VIOLATED", "red"), None: ("open", "yellow")}[
                verdict.holds
            ]
            figures = ", ".join(f"{name} {number}" for name, number in verdict.figures.items())
            by = f"\nviolated by {', '.join(verdict.offenders[:10])}" if verdict.offenders else ""
            notes = "".join(f"\n{note}" for note in verdict.notes[:10])
            table.add_row(Text(sign, style=style), verdict.statement, figures + by + notes)
        console().print(table)
    if any(verdict.holds is False for verdict in verdicts):
        sys.exit(1)


@main.command()
@click.pass_obj
def reset(lab: Lab) -> None:
    """Restore the baseline data.

    Afterwards all topics are empty, no event is in flight, and all fault switches are off. Only services with a fault
    switch are restarted. Further versions of services are stopped, and extension services are removed. Components that
    are down or paused are started first.
    """
    with startup_progress(quiet=False) as listener:
        lab.reset(listener)
    click.echo("The lab is reset: baseline data, empty topics, no lag.")


def _verb(name: str, doing: str, done: str, method: str | None = None) -> Callable[..., None]:
    @main.command(name, help=doing)
    @click.argument("component", type=ComponentName())
    @click.pass_obj
    def command(lab: Lab, component: str) -> None:
        attrgetter(method or name)(lab)(component)
        click.echo(f"{component} {done}.")

    return command


_verb("start", "Start a component, and return when it is ready.", "is ready")
_verb("stop", "Stop a component gracefully.", "has stopped")
_verb("kill", "Kill a component at once, as a crash would (SIGKILL).", "was killed", "faults.kill")
_verb("restart", "Restart a component with its current code.", "is ready again")
_verb("pause", "Pause a component (SIGSTOP).", "is paused", "faults.pause")
_verb("resume", "Resume a paused component (SIGCONT).", "runs again", "faults.resume")


@main.command()
@click.option("--purge", is_flag=True, help="Also remove this lab's data.")
@click.pass_obj
def down(lab: Lab, purge: bool) -> None:
    """Stop all components of this lab: its processes or containers; on a cluster, only detach from it."""
    from labstack.lab import access_of

    lab.down(purge=purge)
    if access_of(lab).state().mode == "kubernetes":
        click.echo("The lab is detached from the cluster, where everything keeps running.")
    else:
        click.echo("The lab is stopped." + (" Its data was removed." if purge else ""))


@main.command()
@as_json
@click.pass_obj
def doctor(lab: Lab, as_json: bool) -> None:
    """Check this machine for problems, and show how to fix each."""
    from labstack.lab import access_of
    from labstack.lifecycle.doctor import examine

    findings = examine(access_of(lab))
    if as_json:
        click.echo(json.dumps([finding.__dict__ for finding in findings]))
    else:
        table = Table(box=None)
        for column in ("", "check", "result", "advice"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            style = VERDICT_STYLES[finding.verdict]
            table.add_row(Text(finding.verdict, style=style), finding.check, finding.seen, finding.advice)
        console().print(table)
    if any(finding.verdict == "problem" for finding in findings):
        sys.exit(1)


@main.command("prefetch")
@click.pass_obj
def prefetch_command(lab: Lab) -> None:
    """Download all programs that the lab needs to start; start nothing.

    Later starts then need no network.
    """
    from labstack.lab import access_of
    from labstack.lifecycle.starting import prefetch
    from labstack.progress import Progress

    with stages(quiet=False) as listener:
        prefetch(access_of(lab), Progress(listener))
    click.echo("Everything that the lab needs to start is on this machine.")


for command in (
    *(status, logs, psql, run, completion, notebooks),
    *(dead_letters, outbox, switch, scenario, images, sweep, install_command, mesh),
):
    main.add_command(command)
for verb in VERBS:
    mesh.add_command(verb)


if __name__ == "__main__":
    main()
