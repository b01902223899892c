"""``lab install``: install a program that no package registry ships."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import click

from labstack.config.paths import LabPaths
from labstack.install.catalogue import entry, names
from labstack.install.finding import find_program
from labstack.install.installing import NAMES, SOURCES, install
from labstack.progress import Progress

REPORT_INTERVAL = 60.0
"""Seconds between two progress lines of a long stage, where there is no terminal."""


@click.command("install")
@click.argument("wanted", metavar="[NAME]...", nargs=-1)
@click.option(
    "--from",
    "source",
    type=click.Choice(SOURCES),
    help="Use only this install source (default: try all, in this order).",
)
@click.option("--list", "listing", is_flag=True, help="List the programs and whether each is installed.")
@click.option(
    "--lock",
    is_flag=True,
    help="Query the registry again for the image's digest and record it, unless versions.toml contains it.",
)
@click.option("--keep", is_flag=True, help="Keep the files that a Go build has downloaded and compiled.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else.")
def install_command(
    wanted: tuple[str, ...], source: str | None, listing: bool, lock: bool, keep: bool, as_json: bool
) -> None:
    """Install programs that no Python package provides.

    The install sources are PATH, the official image or release, Debian, and a build with Go. A program that is already
    installed is verified, and repaired if it is damaged. `lab up` then adds an observability component to the running
    lab; istiod is used after `lab down` and `lab up`.
    """
    paths = LabPaths.of_user()
    if listing or not wanted:
        _list(paths, as_json)
        return
    entries = [entry(name) for name in wanted]  # reject a misspelt name before any download
    if lock:
        from labstack.backends.docker.lock import lock_program

        entries = [lock_program(name) for name in wanted]
    from labstack.cli.printing import stages

    sources, programs = (source,) if source else SOURCES, []
    for program_entry in entries:
        with stages(quiet=as_json) as listener:
            program = install(
                program_entry, paths, Progress(_with_periodic_reports(listener)), sources=sources, keep=keep
            )
        programs.append(program.to_json())
        if not as_json:
            click.echo(f"{program.name} {program.version} is installed: {program.path} (from {program.origin})")
    if as_json:
        click.echo(json.dumps(programs if len(programs) > 1 else programs[0]))


def _list(paths: LabPaths, as_json: bool) -> None:
    found = {name: find_program(name, paths) for name in names()}
    if as_json:
        click.echo(json.dumps({name: program and program.to_json() for name, program in found.items()}))
        return
    for name, program in found.items():
        wanted = entry(name)
        has = {
            "path": wanted.on_path,
            "image": wanted.in_image,
            "archive": wanted.in_archive,
            "debian": wanted.in_debian,
            "go": wanted.by_go,
        }
        sources = ", or ".join(NAMES[source] for source in SOURCES if has[source])
        where = f"{program.path} (from {program.origin})" if program else f"not installed; available from {sources}"
        version = program.version if program else wanted.version_from("path")
        click.echo(f"{name:<12} {version:<10} {where}")


def _with_periodic_reports(listener: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a listener that also prints the progress of a long stage once a minute, if there is no terminal."""
    last_report = time.monotonic()

    def listen(progress: Progress) -> None:
        nonlocal last_report
        listener(progress)
        stage = progress.stages[-1] if progress.stages else None
        if stage and stage.seconds is None and stage.note and time.monotonic() - last_report > REPORT_INTERVAL:
            last_report = time.monotonic()
            if not sys.stderr.isatty():
                click.echo(f"{stage.name}: {stage.note}", err=True)

    return listen
