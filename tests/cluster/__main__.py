"""Run a cluster with the chart until Ctrl-C, for work on the chart or on the tests.

    python -m tests.cluster FOLDER

The folder must be empty or missing. Tests use this cluster if SAGA_LAB_TEST_CLUSTER is that folder.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.cluster import images, installation, operators, programs
from tests.cluster.cluster import PID, cluster


def main(home: Path) -> None:
    """Run the cluster, and print how to use it."""
    home.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = programs.get()
    with cluster(home.resolve(), folder, images.archives(folder)) as running:
        operators.prepare(running)
        installation.install(running)
        (home / PID).write_text(f"{running.pid}\n")
        print(" ".join(running.in_network(["env", f"KUBECONFIG={home}/pki/admin.kubeconfig", "LAB_MODE=kubernetes"])))
        print(f"Put this before a command; {folder}/bin has kubectl and helm. Ctrl-C ends the cluster.", flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
