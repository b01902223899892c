"""`lab notebooks`: a copy of the course to work in."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click


@click.command()
@click.argument("folder")
@click.option(
    "--quiet", is_flag=True, help="Print only the files that you changed and that have a newer version beside them."
)
def notebooks(folder: str, quiet: bool) -> None:
    """Write a working copy of the course into FOLDER.

    The copy contains the notebooks without outputs, and the files that they link to. Run the command again to get a
    newer version. Files that you have changed stay unchanged; their newer versions are written beside them, with the
    date in the name.
    """
    from labstack.jupyter.course_copy import FIRST, copy_course

    if not folder.strip():
        raise click.UsageError("FOLDER is empty; name a folder, such as my-course.")
    done = copy_course(Path(folder))
    for name in done.beside:
        click.echo(f"Your changes are kept; the newer version is beside them: {name}")
    if quiet:
        return
    if done.kept and not done.beside:
        click.echo(f"{len(done.kept)} files that you have changed are kept.")
    click.echo(f"The course is in {click.format_filename(folder)} ({len(done.written)} files written). Open it with:")
    # With a notebook as its argument, JupyterLab would serve that notebook's folder only, without the documents.
    as_root = " --allow-root" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    place = shlex.quote(click.format_filename(folder))
    click.echo(f"  cd {place} && {_jupyter()} lab{as_root} --LabApp.default_url=/lab/tree/{FIRST}")


def _jupyter() -> str:
    """Return the command `jupyter` of this environment: by name if the shell finds it, else by path."""
    own = Path(sys.executable).with_name("jupyter")
    found = shutil.which("jupyter")
    return "jupyter" if found and Path(found) == own else shlex.quote(str(own))
