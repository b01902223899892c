"""`lab notebooks`: a copy of the course to work in."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def notebooks(folder: Path) -> None:
    """Write a copy of the course into FOLDER: notebooks without outputs, and what they link to.

    Run it again for a newer version. What you have changed stays as it is; its newer version is written beside it, with
    the date in its name.
    """
    from labstack.jupyter.course_copy import FIRST, copy_course

    done = copy_course(folder)
    for name in done.beside:
        click.echo(f"you have changed it, so its newer version is beside it: {name}")
    if done.kept and not done.beside:
        click.echo(f"{len(done.kept)} files that you have changed stay as they are")
    click.echo(f"The course is in {folder} ({len(done.written)} files written). Open it with:")
    click.echo(f"  cd {folder} && jupyter lab {FIRST}")
