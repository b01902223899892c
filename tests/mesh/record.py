"""Record the answers of a real istiod to the cases in tests/mesh/cases.

    python -m tests.mesh.record [NAME...]

writes clusters, endpoints, listeners and routes next to each input.yaml, as protobuf JSON, sorted by name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.mesh.istiod import Istiod, Rejected, find_istiod

CASES = Path(__file__).parent / "cases"


def main(names: list[str]) -> None:
    """Record the named cases, or all cases."""
    program = find_istiod()
    if program is None:
        sys.exit("There is no istiod: set LAB_ISTIOD, or run `lab install istiod`.")
    with Istiod(program) as istiod:
        for case in sorted(CASES.iterdir()):
            if names and case.name not in names:
                continue
            try:
                answer = istiod.generate((case / "input.yaml").read_text())
            except Rejected as error:
                print(f"{case.name}: rejected: {error}")
                continue
            for kind, resources in answer.to_json().items():
                (case / f"{kind}.json").write_text(json.dumps(resources, indent=1, sort_keys=True) + "\n")
            print(case.name)


if __name__ == "__main__":
    main(sys.argv[1:])
