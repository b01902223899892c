"""`lab images` and `lab sweep`: the images of the container backend, and the leftovers of deleted labs."""

from __future__ import annotations

import click


@click.group()
def images() -> None:
    """Look at the images of container mode, and pin them by digest."""


@images.command("list")
def list_images() -> None:
    """List the images that a start in container mode uses, and whether each is here."""
    from labstack.backends.docker.images import IMAGES, image, missing

    absent = missing(IMAGES)
    for name in IMAGES:
        click.echo(f"{name:<10} {image(name)}{'  (not fetched yet)' if name in absent else ''}")
    if unpinned := [name for name in IMAGES if "@" not in image(name)]:
        click.echo(f"Without a digest: {', '.join(unpinned)}. `lab images lock` reads and records their digests.")


@images.command("lock")
def lock_images() -> None:
    """Ask the registries for the digests of the images that have none yet, and record them for you.

    From then on exactly these images are used. The record is images.json in your configuration folder.
    """
    from labstack.backends.docker.lock import lock
    from labstack.config.digests import digests_file

    for one in lock():
        click.echo(f"{one.image} is {one.digest} ({', '.join(one.platforms)})")
    click.echo(f"Recorded in {digests_file()}.")


@click.command()
def sweep() -> None:
    """Remove containers, networks and volumes of labs whose folder is gone (container mode)."""
    from labstack.backends.docker.checks import sweep as remove

    removed = remove()
    for kind, names in removed.items():
        click.echo(f"removed {kind}: {', '.join(names)}")
    if not removed:
        click.echo("Nothing is left of any lab that is gone.")
