"""The `lab mesh` commands."""

from __future__ import annotations

import json
from pathlib import Path

import click

from labstack.cli.printing import Commands
from labstack.errors import LabError


@click.group(cls=Commands)
def mesh() -> None:
    """Inspect and change the Istio resources that configure the gateway."""


@mesh.command()
@click.argument("files", nargs=-1, required=True)
@click.pass_context
def translate(ctx: click.Context, files: tuple[str, ...]) -> None:
    """Print the lab's translation of FILES (- for standard input) as one JSON object.

    The object contains clusters, endpoints, listeners and routes. No lab needs to run. Configuration that istiod
    accepts silently, such as a missing host, causes a warning. Configuration that the translator doesn't support is
    rejected.
    """
    # The protobuf messages are slow to import, so only the command that needs them imports them.
    from labstack.istio.documents import resources
    from labstack.istio.translate import translate as translated

    try:
        result = translated([document for file in files for document in resources(Path(file))])
    except LabError as error:
        click.echo(str(error), err=True)
        ctx.exit(1)
    for warning in result.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(json.dumps(result.to_json(), indent=1, sort_keys=True))
