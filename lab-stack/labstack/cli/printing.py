"""The output of the `lab` command: the stages of a start, and the status of the lab."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from labstack.errors import NotRunning, one_of
from labstack.progress import Progress

if TYPE_CHECKING:
    from labstack.lab import Lab
    from labstack.lifecycle.status import LabStatus

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else."
)

COUNT = click.IntRange(min=0)
"""The type of an option that counts lines or requests."""


class Commands(click.Group):
    """A group of commands that answers an unknown command with the closest one and a list of all."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"Unknown command {args[0]!r}: {one_of(args[0], self.list_commands(ctx))}.")
        return super().resolve_command(ctx, args)


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows every text unchanged: markup and emoji codes have no effect.

    Paths, YAML, regular expressions and log lines contain square brackets.
    """
    return Console(stderr=stderr, markup=False, emoji=False)


def running(lab: Lab) -> Lab:
    """Return the lab if it runs.

    Raises
    ------
    NotRunning
        The lab is stopped.
    """
    if lab.status(memory=False).state == "stopped":
        raise NotRunning("The lab is not running.", next_step="run `lab up`")
    return lab


@contextlib.contextmanager
def stages(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show stages as they happen: a live table on a terminal, one line per stage elsewhere."""
    terminal = console(stderr=True)
    if quiet or not terminal.is_terminal:
        printed_stages: set[int] = set()
        printed_notes: list[str] = []

        def listen(progress: Progress) -> None:
            _print_new_notes(progress, printed_notes)
            for number, (stage, line) in enumerate(zip(progress.stages, progress.lines(), strict=True)):
                if stage.seconds is not None and number not in printed_stages:
                    printed_stages.add(number)
                    click.echo(line, err=True)

        yield listen
        return
    with Live(console=terminal, refresh_per_second=12, transient=False) as live:
        yield lambda progress: live.update(_stage_table(progress))


def _print_new_notes(progress: Progress, printed: list[str]) -> None:
    """Print the notes that were not printed yet."""
    for note in progress.notes[len(printed) :]:
        printed.append(note)
        click.echo(note, err=True)


HEARTBEAT = 3.0
"""Seconds between two lines that name the components that a start waits for."""


@contextlib.contextmanager
def startup_progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a start.

    On a terminal this is a table of the stages, which disappears at the end. Elsewhere it is the notes, and every three
    seconds a line with the components that the start waits for.
    """
    terminal = console(stderr=True)
    if terminal.is_terminal and not quiet:
        with Live(console=terminal, refresh_per_second=12, transient=True) as live:
            yield lambda progress: live.update(_stage_table(progress))
        return
    latest: list[Progress] = []
    printed_notes: list[str] = []
    finished = threading.Event()

    def listen(progress: Progress) -> None:
        latest[:] = [progress]
        _print_new_notes(progress, printed_notes)

    def print_waiting() -> None:
        while not finished.wait(HEARTBEAT):
            waits = [stage for stage in latest[-1].stages if stage.seconds is None] if latest else []
            if waits:
                names = ", ".join(f"{one.name} ({one.note})" if one.note else one.name for one in waits)
                click.echo(f"{latest[-1].seconds:5.0f} s  waiting for {names}", err=True)

    thread = threading.Thread(target=print_waiting, daemon=True)
    thread.start()
    try:
        yield listen
    finally:
        finished.set()
        thread.join()


def show_started(status: LabStatus, seconds: float) -> None:
    """Print a summary of a lab that has just started: addresses, missing programs, and next steps."""
    terminal = console()
    where = status.endpoints
    count = sum(component.state == "running" for component in status.components.values())
    kind = {"local": "local processes", "containers": "containers"}.get(status.mode, "components on the cluster")
    title = Text("The lab is ready", style="bold green").append(f": {count} {kind}, {seconds:.1f} s.", style="default")
    terminal.print(title)
    pages = {
        name.capitalize(): url for name, url in where.observers.items() if status.components[name].state == "running"
    }
    for name, url in {"Gateway": where.gateway, **pages}.items():
        terminal.print(f"  {name:<11} {url}", highlight=False, soft_wrap=True)
    for line in status.absent.lines():
        terminal.print(f"  {line[0].upper()}{line[1:]}.", style="dim", highlight=False, soft_wrap=True)
    terminal.print(
        "  Next: `lab demo` runs orders, `lab status` shows all components, "
        f"`lab down` {'detaches from the cluster' if status.mode == 'kubernetes' else 'stops the lab'}.",
        highlight=False,
        soft_wrap=True,
    )


def _stage_table(progress: Progress) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for note in progress.notes:
        table.add_row("", Text(note, style="yellow"), "")
    for stage in progress.stages:
        sign = (
            Text("✗", style="red")
            if stage.failed
            else Text("✓", style="green")
            if stage.seconds is not None
            else Text("…")
        )
        seconds = f"{stage.seconds - stage.began:.1f} s" if stage.seconds is not None else ""
        table.add_row(sign, Text(stage.name).append(f"  {stage.note}" if stage.note else "", style="dim"), seconds)
    return table


def show_status(status: LabStatus, as_json: bool) -> None:
    """Print the status of the lab as a table or as JSON."""
    if as_json:
        click.echo(json.dumps(status.to_json()))
        return
    terminal = console()
    for part in status_view(status).renderables:
        terminal.print(part, soft_wrap=isinstance(part, Text))


def status_view(status: LabStatus) -> Group:
    """Return the status of the lab for a terminal: a title, a table, and lines of text."""
    from labstack.lifecycle.report import COLOURS, SIGNS, STATE_COLOURS, left_out_text, status_rows

    title = Text("Lab: ").append(status.state, style=STATE_COLOURS[status.state]).append(f" ({status.mode} mode)")
    table = Table(box=None, padding=(0, 1))
    for column in ("component", "state", "memory", "address or problem"):
        table.add_column(column, justify="right" if column == "memory" else "left", overflow="fold")
    for row in status_rows(status):
        sign = Text(f"{SIGNS[row.state]} ", style=COLOURS[row.state])
        table.add_row(sign.append(row.name, style="default"), row.state, row.memory, row.note)
    after: list[Text] = []
    if status.rss_bytes:
        after.append(Text(f" {status.rss_bytes / 1e6:.0f} MB in total"))
    if status.left_out:
        after.append(Text(left_out_text(status), style="yellow"))
    if status.state != "stopped":
        after += [Text(f" {line}", style="dim") for line in status.absent.lines()]
    if complaint := status.complaints.get("lab"):
        after.append(Text(complaint, style="red"))
    elif status.state == "stopped":
        after.append(Text("Start it with `lab up`."))
    return Group(title, table, *after)
