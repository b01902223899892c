"""`lab images` and `lab sweep`: what container mode runs, and what deleted labs have left of it."""

from __future__ import annotations

import click


@click.group()
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


@click.command()
def sweep() -> None:
    """Remove containers, networks and volumes of labs whose folder is gone (container mode)."""
    from labstack.containers.checks import sweep as remove

    removed = remove()
    for kind, names in removed.items():
        click.echo(f"removed {kind}: {', '.join(names)}")
    if not removed:
        click.echo("Nothing is left of any lab that is gone.")
