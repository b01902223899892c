"""What the lab does between the starts of its programs, as three short-lived services of `compose.yaml`.

python setup.py topics       make the topics, before the services start
python setup.py connectors   register Debezium's connectors, when the services have made their tables
python setup.py mesh         give istiod its configuration, once it listens
"""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

CONNECT = "http://connect:8083"
ISTIOD = "http://istiod:15080"
KAFKA = "kafka:19092"
PLAN = Path("/etc/saga-lab/setup.json")
MESH = Path("/etc/saga-lab/mesh.yaml")
MESH_FOLDER = Path("/etc/istio/lab/resources")
PATIENCE = 120
"""Seconds that another program has to answer."""


def topics() -> None:
    """Make the topics that are not there."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    plan = json.loads(PLAN.read_text())["topics"]
    wanted = [NewTopic(name, plan["partitions"], 1, config=plan["config"].get(name, {})) for name in plan["names"]]
    made = AdminClient({"bootstrap.servers": KAFKA}).create_topics(wanted, operation_timeout=30)
    for name, answer in made.items():
        try:
            answer.result(PATIENCE)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        print(f"topic {name}", flush=True)


def connectors() -> None:
    """Register each connector, and wait until its task runs."""
    for name, config in json.loads(PLAN.read_text())["connectors"].items():
        until(lambda name=name, config=config: put(f"{CONNECT}/connectors/{name}/config", config))
        until(lambda name=name: states(name) == ["RUNNING"])
        print(f"connector {name}", flush=True)


def mesh() -> None:
    """Place the configuration: istiod misses at times what lay there before it listened."""
    until(istiod_listens)
    (MESH_FOLDER / "in-force.yaml").write_text(MESH.read_text())
    print("istiod has its configuration", flush=True)


def put(url: str, body: dict[str, str]) -> bool:
    """Tell whether Connect has taken a connector; until it is whole it answers 409 or 5xx."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT")
    with urllib.request.urlopen(request, timeout=30):
        return True


def states(connector: str) -> list[str]:
    """Return the states of a connector's tasks."""
    with urllib.request.urlopen(f"{CONNECT}/connectors/{connector}/status", timeout=10) as answer:
        return [task["state"] for task in json.load(answer)["tasks"]]


def istiod_listens() -> bool:
    """Tell whether istiod answers at all: its own readiness is 503 where there is no Kubernetes."""
    try:
        with urllib.request.urlopen(f"{ISTIOD}/ready", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True


def until(holds: Callable[[], bool]) -> None:
    """Ask until it holds; end the program with what was seen last when it does not in time."""
    deadline, seen = time.monotonic() + PATIENCE, "it did not come to hold"
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except OSError as error:  # an answer that is no success is one, too
            seen = str(error)
        time.sleep(0.5)
    sys.exit(f"after {PATIENCE} s: {seen}")


if __name__ == "__main__":
    {"topics": topics, "connectors": connectors, "mesh": mesh}[sys.argv[1]]()
