"""Fixtures of the tests of the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub import environment
from tests.hub.running import Hub, hub


@pytest.fixture(scope="module")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Yield a hub whose learners' servers are processes of this machine. Skip the test where no hub can be run."""
    folder = tmp_path_factory.mktemp("hub")
    try:
        (folder / "homes").mkdir()
        traits: dict[str, dict[str, Any]] = {
            "JupyterHub": {"spawner_class": "simple"},
            "SimpleLocalProcessSpawner": {"home_dir_template": f"{folder}/homes/{{username}}"},
            "Spawner": {
                "cmd": [str(environment.python()), "-m", "jupyterhub.singleuser"],
                "args": ["--allow-root", "--ServerApp.ip=127.0.0.1"],
                "default_url": "/lab",
                "environment": {
                    "JUPYTER_CONFIG_PATH": f"{sys.prefix}/etc/jupyter",
                    "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
                    "JUPYTERLAB_DIR": f"{sys.prefix}/share/jupyter/lab",
                },
                "http_timeout": 120,
                "start_timeout": 120,
            },
        }
        with hub(folder, traits) as running:
            yield running
    except environment.Unavailable as reason:
        pytest.skip(f"NOT RUN: {reason}")


@pytest.fixture(scope="session")
def hub_python() -> Path:
    """Return the Python with the hub's packages."""
    try:
        return environment.python()
    except environment.Unavailable as reason:
        pytest.skip(f"NOT RUN: {reason}")
