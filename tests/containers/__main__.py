"""Run a command on a private Docker engine, with stand-ins for the images that can't be pulled.

    python -m tests.containers lab up
    python -m tests.containers pytest tests/stack/test_reset.py

If an engine runs already, and the official images are present or can be pulled, the command uses those. The choice is
printed first. Exit status 77 means that neither is possible on this machine, and the command was not run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from labstack.backends.docker.images import IMAGES, image, missing, pull
from labstack.errors import LabError
from tests.containers.engine import CACHE, EngineUnavailable
from tests.containers.standins import engine_with_standins, environment_for, standins

SKIPPED = 77


def main(command: list[str]) -> int:
    """Run the command, and return its exit status; 77 if no engine can be run."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if images := official_images():
        print(f"container mode, on this machine's engine, with {', '.join(images)}", flush=True)
        return subprocess.run(command, env={**os.environ, "LAB_MODE": "containers"}).returncode
    home = Path(tempfile.mkdtemp(prefix="saga-lab-engine-"))
    try:
        with engine_with_standins(CACHE, home) as running:
            print(
                f"container mode, on STAND-INS with the real programs inside: {', '.join(standins().values())}",
                flush=True,
            )
            environment = {**os.environ, **environment_for(running)}
            return subprocess.run(running.command_in_network(command), env=environment).returncode
    except EngineUnavailable as reason:
        print(f"SKIPPED: container mode can't be tried here: {reason}", file=sys.stderr, flush=True)
        return SKIPPED
    finally:
        shutil.rmtree(home, ignore_errors=True)


def official_images() -> list[str]:
    """Return the official images on this machine's engine, pulling missing ones; an empty list if that fails."""
    try:
        for name in missing(IMAGES):
            print(f"fetching {image(name)}", flush=True)
            pull(name)
    except LabError as reason:
        print(f"not on this machine's engine: {reason.problem}", flush=True)
        return []
    return [image(name) for name in IMAGES]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
