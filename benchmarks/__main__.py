"""Run a benchmark: ``python -m benchmarks NAME [--json FILE] [--quick]``."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
from rich.console import Console

from benchmarks.figures import machine, write_json

NAMES = ["table", "start", "relay", "saga", "guards", "modes", "gateway", "seeing", "course", "cluster", "scale"]


@click.command()
@click.argument("name", metavar="BENCHMARK", type=click.Choice(NAMES))
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there, too.")
@click.option("--record", "keep", is_flag=True, help="For `table`: append the ratios to benchmarks/history.json.")
@click.option("--quick", is_flag=True, help="A short run, to see that it works; its figures mean nothing.")
def main(name: str, file: Path | None, keep: bool, quick: bool) -> None:
    """Measure the lab on this machine, in a separate lab that is removed afterwards."""
    if keep and (quick or name != "table"):
        raise click.UsageError("--record keeps the figures of a whole `table`")
    console = Console()
    benchmark = importlib.import_module(f"benchmarks.{name}")
    before = machine()
    results = benchmark.measure(quick=quick, console=console)
    benchmark.show(results, console)
    console.print(f"load average {before['load_average'][0]:.1f} at the beginning, on {before['cpus']} CPUs")
    if file:
        write_json(file, name, before, results)
    if keep:
        benchmark.record(results)


if __name__ == "__main__":
    main()
