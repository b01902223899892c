"""Get a program that tests are held against: `lab install NAME`, or exit status 77 where it can't be had.

python -m tests.get_program istiod "nothing is held against it"
"""

from __future__ import annotations

import subprocess
import sys

SKIPPED = 77


def main(name: str, consequence: str) -> int:
    """Install it, and return the exit status."""
    done = subprocess.run([sys.executable, "-m", "labstack.cli", "install", name])
    if done.returncode:
        print(f"SKIPPED: {name} can't be had here, so {consequence}", file=sys.stderr, flush=True)
    return SKIPPED if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
