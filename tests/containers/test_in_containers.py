"""Container mode on a private Docker engine: pytest runs again inside the engine's network, once per group of tests.

The tests themselves are those of ``tests/stack`` and the notebooks. If no engine can be run, or a program for a
stand-in image is missing, they are skipped and the reason is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import CACHE, Engine, EngineUnavailable
from tests.containers.standins import are_built, engine_with_standins, environment_for

ROOT = Path(__file__).resolve().parents[2]
SHORT = {"containers": ["tests/stack/test_container_mode.py"]}
LONG = {
    name: [f"tests/stack/test_{name}.py"]
    for name in (
        "engine_troubles",
        "reset",
        "mesh",
        "switches",
        "dead_letters",
        "recovery",
        "relay",
        "resend",
        "referee",
    )
} | {"course": ["notebooks/"]}
SECONDS = 1800


def groups() -> list[Any]:
    """Return the groups as parameters. All are ``long`` until the images are built, because the build takes minutes."""
    quick = SHORT if are_built(CACHE) else {}
    return [pytest.param(name, marks=() if name in quick else (pytest.mark.long,)) for name in SHORT | LONG]


@pytest.fixture(scope="module")
def docker_engine() -> Iterator[Engine]:
    """Run a Docker engine that has the images."""
    home = Path(tempfile.mkdtemp(prefix="saga-lab-engine-"))
    try:
        with engine_with_standins(CACHE, home) as found:
            yield found
    except EngineUnavailable as reason:
        pytest.skip(f"NOT RUN: container mode cannot be tried here: {reason}")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("group", groups())
def test_container_mode(docker_engine: Engine, group: str, tmp_path: Path) -> None:
    """The same tests and notebooks pass in container mode."""
    pytest_again = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:xdist", "--nbval", *(SHORT | LONG)[group]]
    environment = {
        name: value
        for name, value in {**os.environ, **environment_for(docker_engine)}.items()
        if not name.startswith(("PYTEST_", "SAGA_LAB_RECORD")) and name != "SAGA_LAB_SAMPLE"
    }
    environment |= {"XDG_STATE_HOME": str(tmp_path), "LAB_NAME": f"containers-{group}"}
    inner = subprocess.run(
        docker_engine.command_in_network(pytest_again),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    print(inner.stdout)
    assert inner.returncode == 0, inner.stdout[-8000:]
    assert " passed" in inner.stdout
