"""Install a program that tests compare with, or report that its tests are skipped.

python -m tests.get_program prometheus --not-built
"""

from __future__ import annotations

import sys

from labstack.config.paths import LabPaths
from labstack.errors import LabError
from labstack.install import entry, install
from labstack.install.installing import SOURCES
from labstack.progress import Progress


def main(name: str, *flags: str) -> int:
    """Install a program from the first source that provides it; ``--not-built`` excludes a build with Go. Return 0."""
    sources = [source for source in SOURCES if source != "go" or "--not-built" not in flags]
    try:
        found = install(entry(name), LabPaths.of_user(), Progress(), sources=sources)
        print(f"{found.name} {found.version} is there, from {found.origin}", flush=True)
    except LabError as error:
        print(f"NOT TESTED: {name} cannot be had here: {error.problem}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
