"""`lab images` and `lab sweep`: the images of the container backend, and the leftovers of deleted labs."""

from __future__ import annotations

import click

from labstack.cli.printing import Commands


@click.group(cls=Commands)
def images() -> None:
    """List the images of container mode, and pin them by digest."""


@images.command("list")
def list_images() -> None:
    """List the images of container mode, and mark those that are not downloaded yet."""
    from labstack.backends.docker.images import IMAGES, image, missing

    absent = missing(IMAGES)
    for name in IMAGES:
        click.echo(f"{name:<10} {image(name)}{'  (not downloaded yet)' if name in absent else ''}")
    if unpinned := [name for name in IMAGES if "@" not in image(name)]:
        click.echo(f"Without a digest: {', '.join(unpinned)}. `lab images lock` reads and records their digests.")


@images.command("lock")
def lock_images() -> None:
    """Read the missing digests of the images from their registries, and record them.

    From then on the lab uses exactly these images. The record is images.json in your configuration folder.
    """
    from labstack.backends.docker.lock import lock
    from labstack.config.digests import digests_file

    for one in lock():
        click.echo(f"{one.image} is {one.digest} ({', '.join(one.platforms)})")
    click.echo(f"Recorded in {digests_file()}.")


@click.command()
def sweep() -> None:
    """Remove the containers, networks and volumes of deleted labs.

    A lab is deleted if its folder no longer exists. Only container mode leaves anything to remove.
    """
    from labstack.backends.docker.checks import sweep as remove

    removed = remove()
    for kind, names in removed.items():
        click.echo(f"removed {kind}: {', '.join(names)}")
    if not removed:
        click.echo("Nothing to remove.")
