"""The `lab` command: the verbs of `Lab` in a shell."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from labservices.settings import SWITCHES
from labstack.errors import LabError, NotRunning
from labstack.install.commands import install_command
from labstack.lab import Lab
from labstack.mesh.commands import mesh
from labstack.mesh.verbs import VERBS
from labstack.mode import MODES
from labstack.progress import Progress
from labstack.report import COLOURS, SIGNS, STATE_COLOURS, status_rows
from labstack.status import LabStatus

VERDICT_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}
as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else."
)


class LabGroup(click.Group):
    """Turns the lab's errors into messages, and Ctrl-C into an orderly end."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            Console(stderr=True).print(Text(f"{error}", style="red"), soft_wrap=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            Console(stderr=True).print("Stopped by Ctrl-C; what this command had started is ended.")
            ctx.exit(130)


INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    # Pressed again and again, Ctrl-C must not keep the first one from ending what was started.
    for which in INTERRUPTIONS:
        signal.signal(which, signal.SIG_IGN)
    raise KeyboardInterrupt


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--name", envvar="LAB_NAME", help="Which of your labs (default: LAB_NAME, else 'default').")
@click.option("--mode", type=click.Choice(["auto", *MODES]), help="What a start uses (default: LAB_MODE, else auto).")
@click.version_option(package_name="saga-lab")
@click.pass_context
def main(ctx: click.Context, name: str | None, mode: str | None) -> None:
    """A lab of four services, PostgreSQL, Debezium and Kafka, to learn by touching."""
    # A closed terminal or a `kill` ends a start in order, as Ctrl-C does.
    for which in INTERRUPTIONS:
        # Who asked for it with `nohup` wants to outlive the terminal.
        if which == signal.SIGINT or signal.getsignal(which) != signal.SIG_IGN:
            signal.signal(which, _interrupt)
    ctx.obj = Lab(name, mode=mode)


@main.command()
@as_json
@click.pass_obj
def up(lab: Lab, as_json: bool) -> None:
    """Start the lab, or whatever of it isn't running; leaves it running."""
    with _stages(quiet=as_json) as listener:
        status = lab.up(listener)
    _show_status(status, as_json)


@main.command()
@as_json
@click.pass_obj
def status(lab: Lab, as_json: bool) -> None:
    """Show how the lab is: every component, its state, memory and address."""
    _show_status(lab.status(), as_json)


@main.command()
@click.argument("name")
@click.option("-n", "--lines", default=40, show_default=True, help="How many lines.")
@click.pass_obj
def logs(lab: Lab, name: str, lines: int) -> None:
    """Show the end of a component's log."""
    click.echo(lab.logs(name, lines))


@main.command()
@as_json
@click.pass_obj
def demo(lab: Lab, as_json: bool) -> None:
    """Carry orders through the running lab and tell what happened (with --json: one order)."""
    from labstack import demo as show

    where = _running(lab).endpoints
    if as_json:
        order = show.follow(where, show.place(where, show.orders_of_the_show()[0])["order_id"])
        click.echo(json.dumps(order))
        return
    console = Console()
    show.show(where, lambda expected, story: _tell(console, expected, story))


def _tell(console: Console, expected: Any, story: Any) -> None:
    order = story.order
    items = ", ".join(f"{line['quantity']} x {line['sku']}" for line in order["items"])
    style = "green" if order["status"] == "COMPLETED" else "yellow"
    console.print(f"[bold]{expected.customer_id}[/bold] orders {items} to {expected.destination}")
    console.print(Text("   status   ").append(" → ".join(h["status"] for h in story.history), style=style))
    console.print(Text("   events   " + " → ".join(kind for _, kind in story.events)))
    if order["failure_reason"]:
        console.print(Text("   because  ").append(order["failure_reason"], style=style))


@main.command()
@as_json
@click.option("--wait", default=5.0, show_default=True, help="Seconds to wait for the lab to come to rest.")
@click.pass_obj
def check(lab: Lab, as_json: bool, wait: float) -> None:
    """Judge every invariant of the saga, from the databases and topics themselves; exit status 1 if one is violated."""
    verdicts = lab.check(wait)
    if as_json:
        keys = ("name", "holds", "figures", "offenders", "notes")
        click.echo(json.dumps([{key: getattr(verdict, key) for key in keys} for verdict in verdicts]))
    else:
        table = Table(box=None)
        for column in ("", "what must be so", "figures"):
            table.add_column(column, overflow="fold")
        for verdict in verdicts:
            sign, style = {True: ("holds", "green"), False: ("VIOLATED", "red"), None: ("open", "yellow")}[
                verdict.holds
            ]
            figures = ", ".join(f"{name} {number}" for name, number in verdict.figures.items())
            by = f"\nby {', '.join(verdict.offenders[:10])}" if verdict.offenders else ""
            notes = "".join(f"\n{note}" for note in verdict.notes[:10])
            table.add_row(Text(sign, style=style), verdict.statement, figures + by + notes)
        Console().print(table)
    if any(verdict.holds is False for verdict in verdicts):
        sys.exit(1)


@main.command()
@click.pass_obj
def reset(lab: Lab) -> None:
    """Bring the data back to the course's start, without restarting programs; what is broken is started again first."""
    with Console().status("bringing the data back to the course's start"):
        lab.reset()
    click.echo("The lab is as at the course's start: opening data, empty topics, no lag.")


def _verb(name: str, doing: str, done: str) -> Callable[..., None]:
    @main.command(name, help=doing)
    @click.argument("component")
    @click.pass_obj
    def command(lab: Lab, component: str) -> None:
        getattr(lab, name)(component)
        click.echo(f"{component} {done}.")

    return command


_verb("start", "Start a component; returns when it serves.", "serves")
_verb("stop", "End a component in good order.", "has ended")
_verb("kill", "End a component at once, as a crash would (SIGKILL).", "was killed")
_verb("restart", "Stop a component and start it, with its code as it is now.", "serves again")
_verb("pause", "Freeze a component (SIGSTOP).", "is frozen")
_verb("resume", "Let a frozen component go on (SIGCONT).", "goes on")


@main.group("dead-letters")
def dead_letters() -> None:
    """Look at the records that services have given up, and send them back."""


@dead_letters.command("list")
@as_json
@click.pass_obj
def list_dead_letters(lab: Lab, as_json: bool) -> None:
    """List all dead letters."""
    letters = _running(lab).dead_letters()
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
    from labstack.dead_letters import find

    found = find(_running(lab).endpoints, letter).to_json()
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
    if again := _running(lab).replay(letter):
        click.echo(f"{letter} failed again, {again.attempts} times: {again.error}", err=True)
        sys.exit(1)
    click.echo(f"{letter} was handled; what was parked behind it follows.")


@dead_letters.command("discard")
@click.argument("letter")
@click.pass_obj
def discard(lab: Lab, letter: str) -> None:
    """Drop a dead letter for good, so that what is parked behind it follows."""
    _running(lab).discard(letter)
    click.echo(f"{letter} is dropped; what was parked behind it follows.")


@main.group()
def outbox() -> None:
    """Mend what a lost replication slot took."""


@outbox.command()
@click.argument("order")
@click.pass_obj
def resend(lab: Lab, order: str) -> None:
    """Let every event of an order come once more, with its own id: the inboxes stop what was handled already."""
    for service, rows in _running(lab).resend(order).items():
        click.echo(f"{service}: {rows} events come again")


@main.group()
def switch() -> None:
    """Make a service do something wrong on purpose, to see what it is for. `lab reset` turns all off."""


@switch.command("list")
@as_json
@click.pass_obj
def list_switches(lab: Lab, as_json: bool) -> None:
    """List the switches, and where they are on."""
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


def _running(lab: Lab) -> Lab:
    if lab.status(memory=False).state == "stopped":
        raise NotRunning("The lab is not running.", next_step="`lab up` starts it")
    return lab


@main.command()
@click.option("--purge", is_flag=True, help="Remove this lab's data, too.")
@click.pass_obj
def down(lab: Lab, purge: bool) -> None:
    """End everything of this lab, whoever started it."""
    lab.down(purge=purge)
    click.echo("The lab is down." + (" Its data are removed." if purge else ""))


@main.command()
@as_json
@click.pass_obj
def doctor(lab: Lab, as_json: bool) -> None:
    """Look for what could spoil a lab on this machine, and say what to do about it."""
    findings = lab.doctor()
    if as_json:
        click.echo(json.dumps([finding.__dict__ for finding in findings]))
    else:
        table = Table(box=None)
        for column in ("", "check", "seen", "what to do"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            style = VERDICT_STYLES[finding.verdict]
            table.add_row(Text(finding.verdict, style=style), finding.check, finding.seen, finding.advice)
        Console().print(table)
    if any(finding.verdict == "problem" for finding in findings):
        sys.exit(1)


main.add_command(install_command)
main.add_command(mesh)
for verb in VERBS:
    mesh.add_command(verb)


@main.group()
def images() -> None:
    """Look at the images of container mode, and pin them by digest."""


@images.command("list")
def list_images() -> None:
    """List the images that a start in container mode uses, and whether each is here."""
    from labstack.containers.images import IMAGES, image, missing

    absent = missing(IMAGES)
    for name in IMAGES:
        click.echo(f"{name:<10} {image(name)}{'  (not fetched yet)' if name in absent else ''}")


@images.command("lock")
def lock_images() -> None:
    """Ask the registries for the images' digests and platforms, and write them into lab-stack/versions.toml."""
    from labstack.containers.lock import lock

    for one in lock():
        click.echo(f"{one.name:<10} {one.image} is {one.digest} ({', '.join(one.platforms)})")


@main.command()
def sweep() -> None:
    """Remove containers, networks and volumes of labs whose folder is gone (container mode)."""
    from labstack.containers.checks import sweep as remove

    removed = remove()
    for kind, names in removed.items():
        click.echo(f"removed {kind}: {', '.join(names)}")
    if not removed:
        click.echo("Nothing is left of any lab that is gone.")


@main.command()
@click.pass_obj
def prefetch(lab: Lab) -> None:
    """Fetch and check every program now, so that later starts need no network; starts nothing."""
    with _stages(quiet=False) as listener:
        lab.prefetch(listener)
    click.echo("Every program is there.")


@contextlib.contextmanager
def _stages(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show stages as they happen: a live table on a terminal, a line for each elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        told: set[int] = set()
        said: list[str] = []

        def listen(progress: Progress) -> None:
            for note in progress.notes[len(said) :]:
                said.append(note)
                click.echo(note, err=True)
            for number, (stage, line) in enumerate(zip(progress.stages, progress.lines(), strict=True)):
                if stage.seconds is not None and number not in told:
                    told.add(number)
                    click.echo(line, err=True)

        yield listen
        return
    with Live(console=console, refresh_per_second=12, transient=False) as live:
        yield lambda progress: live.update(_stage_table(progress))


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


def _show_status(status: LabStatus, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(status.to_json()))
        return
    console = Console()
    title = Text("Lab: ").append(status.state, style=STATE_COLOURS[status.state]).append(f" ({status.mode} mode)")
    console.print(title)
    table = Table(box=None, padding=(0, 1))
    for column in ("component", "state", "memory", "where, or what is wrong"):
        table.add_column(column, justify="right" if column == "memory" else "left", overflow="fold")
    for row in status_rows(status):
        sign = Text(f"{SIGNS[row.state]} ", style=COLOURS[row.state])
        table.add_row(sign.append(row.name, style="default"), row.state, row.memory, row.note)
    console.print(table)
    if status.rss_bytes:
        console.print(f" {status.rss_bytes / 1e6:.0f} MB in all")
    if complaint := status.complaints.get("lab"):
        console.print(Text(complaint, style="red"), soft_wrap=True)
    elif status.state == "stopped":
        console.print("Start it with `lab up`.")


if __name__ == "__main__":
    main()
