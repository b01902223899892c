"""The differential fuzz: random configurations, given to the translator and to a real istiod.

    python -m tests.mesh.fuzz --seeds 0-999

prints how many agree, and for each that does not, its seed and the difference. A seed makes the same configuration
every time; ``--show SEED`` prints it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from labstack.istio.documents import load
from labstack.istio.translate import translate
from tests.mesh.istiod import Istiod, Rejected, find_istiod
from tests.mesh.strategies import configurations

JSON = dict[str, list[dict[str, Any]]]

# Hypothesis generates the simplest example first; later examples are random.
EXAMPLES = 2


def configuration(number: int) -> str:
    """Return the configuration for a seed."""
    made: list[str] = []

    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def collect(text: str) -> None:
        made.append(text)

    collect()
    return made[-1]


def comparable(resources: JSON) -> JSON:
    """Return resources with the query parameters of each match sorted, since istiod returns them in no fixed order."""
    for routes in resources["routes"]:
        for host in routes.get("virtual_hosts", []):
            for route in host.get("routes", []):
                route["match"].get("query_parameters", []).sort(key=lambda each: each["name"])
    return resources


def difference(text: str, istiod: Istiod) -> list[str]:
    """Return the lines in which the translator and istiod differ for a configuration; empty if they agree."""
    try:
        theirs = comparable(istiod.generate(text).to_json())
    except Rejected as error:  # the strategies generated an invalid configuration
        return [f"istiod rejected the configuration: {error}"]
    ours = comparable(translate(load(text)).to_json())
    return list(_differences(theirs, ours))


def _differences(theirs: JSON, ours: JSON) -> Iterator[str]:
    for kind in theirs:
        left, right = (json.dumps(side[kind], indent=1, sort_keys=True).splitlines() for side in (theirs, ours))
        yield from difflib.unified_diff(left, right, f"istiod's {kind}", f"the translator's {kind}", lineterm="")


def disagreements(seeds: Iterable[int], istiod: Istiod) -> Iterator[tuple[int, list[str]]]:
    """Yield each seed with its difference, which is empty if both agree."""
    for number in seeds:
        yield number, difference(configuration(number), istiod)


def main() -> int:
    """Run the fuzz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-999", help="first-last")
    parser.add_argument("--show", type=int, help="only print the configuration of this seed")
    parser.add_argument("--lines", type=int, default=60, help="of each difference")
    options = parser.parse_args()
    if options.show is not None:
        print(configuration(options.show))
        return 0
    program = find_istiod()
    if program is None:
        sys.exit("There is no istiod: set LAB_ISTIOD, or run `lab install istiod`.")
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    agreed = 0
    with Istiod(Path(program)) as istiod:
        for number, lines in disagreements(seeds, istiod):
            agreed += not lines
            if lines:
                print(f"seed {number} differs:", *lines[: options.lines], "", sep="\n", flush=True)
    print(f"{agreed} of {len(seeds)} configurations agree")
    return 0 if agreed == len(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
