"""The `lab mesh` commands."""

from __future__ import annotations

import json
from pathlib import Path

import click

from labstack.errors import LabError


@click.group()
def mesh() -> None:
    """Istio's YAML: what steers the requests, and what becomes of it in Envoy."""


@mesh.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def translate(ctx: click.Context, files: tuple[Path, ...]) -> None:
    """Print what the lab's translator makes of FILES, as one JSON object: clusters, endpoints, listeners, routes.

    No lab needs to run. What istiod would take in silence, such as a host that isn't there, is a warning; what the
    translator doesn't do is refused.
    """
    # The protobuf messages are slow to import, so only the command that needs them imports them.
    from labstack.istio.documents import read
    from labstack.istio.translate import translate as translated

    try:
        result = translated([document for file in files for document in read(file)])
    except LabError as error:
        click.echo(str(error), err=True)
        ctx.exit(1)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(json.dumps(result.to_json(), indent=1, sort_keys=True))
