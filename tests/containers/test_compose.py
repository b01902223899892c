"""`docker compose up` with `deploy/compose.yaml`: the real Compose on a private engine with stand-in images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from labstack.observability.observers import NAMES as OBSERVERS
from tests.containers.engine import CACHE, EngineUnavailable
from tests.containers.standins import engine_with_standins, environment_for, standins

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
VERSION = "v2.40.3"
MODULE = f"github.com/docker/compose/v2@{VERSION}"
ORDERS = """
import httpx, time
gateway = httpx.Client(base_url="http://127.0.0.1:8080", timeout=10)
def final_status(customer):
    body = {"customer_id": customer, "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 2}]}
    order = gateway.post("/orders", json=body).raise_for_status().json()
    deadline = time.monotonic() + 60
    while order["status"] not in ("COMPLETED", "CANCELLED") and time.monotonic() < deadline:
        time.sleep(0.2)
        order = gateway.get(f"/orders/{order['order_id']}").raise_for_status().json()
    return order["status"], order["failure_reason"]
print([final_status("ada"), final_status("broke-bob")])
"""


@pytest.fixture(scope="module")
def compose() -> Path:
    """Return Docker Compose, built once."""
    program = CACHE / f"docker-compose-{VERSION}"
    if program.exists():
        return program
    if not shutil.which("go"):
        pytest.skip("NOT RUN: there is no Go on this machine to build Docker Compose")
    CACHE.mkdir(parents=True, exist_ok=True)
    found = subprocess.run(["go", "mod", "download", "-json", MODULE], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"NOT RUN: Docker Compose can't be fetched: {found.stdout[-300:]}")
    with tempfile.TemporaryDirectory(prefix="saga-lab-compose-") as folder:
        source = Path(shutil.copytree(json.loads(found.stdout)["Dir"], Path(folder) / "source"))
        for path in (source, *source.rglob("*")):
            path.chmod(path.stat().st_mode | 0o200)
        partial = CACHE / "growing-docker-compose"
        built = subprocess.run(["go", "build", "-o", partial, "./cmd"], cwd=source, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr[-2000:]
        partial.rename(program)
    return program


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_compose_starts_the_whole_system(compose: Path) -> None:
    """All services become healthy, one order completes and another is compensated, and `down` leaves no container."""
    if "istiod" not in standins():
        pytest.skip("NOT RUN: there is no istiod on this machine for a stand-in image")
    services = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
    # Grafana has no stand-in.
    wanted = [name for name in services if name not in set(OBSERVERS) - standins().keys()]
    home = Path(tempfile.mkdtemp(prefix="saga-lab-engine-"))
    try:
        with engine_with_standins(CACHE, home) as running:
            environment = {**os.environ, **environment_for(running)}

            def run(*words: str | Path) -> str:
                done = subprocess.run(
                    running.command_in_network([str(word) for word in words]),
                    env=environment,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=900,
                )
                assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"
                return done.stdout

            try:
                run(compose, "-f", FILE, "up", "--wait", "--wait-timeout", "300", *wanted)
                assert run(sys.executable, "-c", ORDERS).strip() == str(
                    [("COMPLETED", None), ("CANCELLED", "insufficient_funds")]
                )
                if "prometheus" in standins():
                    alive = run("curl", "--silent", "http://127.0.0.1:9090/api/v1/query?query=up")
                    up = {
                        one["metric"]["job"] + one["metric"].get("service", ""): one["value"][1]
                        for one in json.loads(alive)["data"]["result"]
                    }
                    assert set(up.values()) == {"1"}, up
                    assert {"servicesorder", "servicesshipping", "gateway", "relay"} <= set(up)
            finally:
                run(compose, "-f", FILE, "down", "--volumes", "--timeout", "20")
            assert (
                json.loads(
                    run(
                        "curl",
                        "--silent",
                        "--unix-socket",
                        running.address.removeprefix("unix://"),
                        "http://localhost/containers/json?all=1",
                    )
                )
                == []
            )
    except EngineUnavailable as reason:
        pytest.skip(f"NOT RUN: container mode cannot be tried here: {reason}")
    finally:
        shutil.rmtree(home, ignore_errors=True)
