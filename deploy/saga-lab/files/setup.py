"""The setup steps between the starts of the programs, as three short-lived services of `compose.yaml`.

python setup.py topics       create the topics, before the services start
python setup.py connectors   register Debezium's connectors, after the services have created their tables
python setup.py mesh         place istiod's configuration, once istiod listens
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

CONNECT = "http://connect:8083"
ISTIOD = "http://istiod:15080"
KAFKA = "kafka:19092"
PLAN = Path("/etc/saga-lab/setup.json")
MESH = Path("/etc/saga-lab/mesh.yaml")
MESH_FOLDER = Path("/etc/istio/lab/resources")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Opens URLs without the proxy that Docker's configuration may set in every container."""
PATIENCE = 120
"""Seconds to wait for another program."""


def topics() -> None:
    """Create the missing topics."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    plan = json.loads(PLAN.read_text())["topics"]
    wanted = [NewTopic(name, plan["partitions"], 1, config=plan["config"].get(name, {})) for name in plan["names"]]
    client = AdminClient({"bootstrap.servers": KAFKA})
    for name, answer in client.create_topics(wanted, operation_timeout=30).items():
        try:
            answer.result(PATIENCE)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        print(f"topic {name}", flush=True)


def connectors() -> None:
    """Register each connector, and wait until its task runs."""
    for name, config in json.loads(PLAN.read_text())["connectors"].items():
        until(partial(put, f"{CONNECT}/connectors/{name}/config", config))
        until(partial(runs, name))
        print(f"connector {name}", flush=True)


def mesh() -> None:
    """Place the configuration. istiod sometimes misses files that exist before it listens."""
    until(istiod_listens)
    (MESH_FOLDER / "in-force.yaml").write_text(MESH.read_text())
    print("istiod has its configuration", flush=True)


def put(url: str, body: dict[str, str]) -> bool:
    """Report whether Connect accepted a connector; it returns 409 or 5xx until its startup is complete."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT")
    with DIRECT.open(request, timeout=30):
        return True


def runs(connector: str) -> bool:
    """Report whether the connector's task runs."""
    with DIRECT.open(f"{CONNECT}/connectors/{connector}/status", timeout=10) as answer:
        return [task["state"] for task in json.load(answer)["tasks"]] == ["RUNNING"]


def istiod_listens() -> bool:
    """Report whether istiod responds at all: without Kubernetes its readiness probe returns 503."""
    try:
        with DIRECT.open(f"{ISTIOD}/ready", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True


def until(holds: Callable[[], bool]) -> None:
    """Poll until the condition holds; exit with the last error when it times out."""
    deadline, seen = time.monotonic() + PATIENCE, "the condition does not hold"
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError as error:  # HTTPError is one, too
            seen = str(error)
        time.sleep(0.5)
    sys.exit(f"after {PATIENCE} s: {seen}")


if __name__ == "__main__":
    {"topics": topics, "connectors": connectors, "mesh": mesh}[sys.argv[1]]()
