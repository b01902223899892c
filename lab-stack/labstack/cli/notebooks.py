"""`lab notebooks`: a copy of the course to work in."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def notebooks(folder: Path) -> None:
    """Write a working copy of the course into FOLDER.

    The copy contains the notebooks without outputs, and the files that they link to. Run the command again to get a
    newer version. Files that you have changed stay unchanged; their newer versions are written beside them, with the
    date in the name.
    """
    from labstack.jupyter.course_copy import FIRST, copy_course

    done = copy_course(folder)
    for name in done.beside:
        click.echo(f"Your changes are kept; the newer version is beside them: {name}")
    if done.kept and not done.beside:
        click.echo(f"{len(done.kept)} files that you have changed are kept.")
    click.echo(f"The course is in {folder} ({len(done.written)} files written). Open it with:")
    # With a notebook as its argument, JupyterLab would serve that notebook's folder only, without the documents.
    as_root = " --allow-root" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    click.echo(f"  cd {shlex.quote(str(folder))} && jupyter lab{as_root} --LabApp.default_url=/lab/tree/{FIRST}")
