"""Orders on a test cluster, placed by a client in the cluster's network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.cluster.cluster import Cluster
from tests.cluster.installation import namespaced

PATIENCE = 300.0
"""Seconds until the client gives an order up."""


@dataclass
class Outcome:
    """What became of a client's orders.

    Attributes
    ----------
    orders : dict of str to str
        Last status of each order, by its id.
    unanswered : int
        Number of orders that the gateway never accepted.
    repeated : int
        Number of requests that failed and were repeated.
    longest_gap_s : float
        The longest time in seconds in which no request succeeded.
    """

    orders: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0
    repeated: int = 0
    longest_gap_s: float = 0.0


def gateway_url(cluster: Cluster, node: str = "") -> str:
    """Return the address of the gateway's port on a node; by default on the last."""
    port = namespaced(cluster, "get", "service", "gateway", "--output", "jsonpath={.spec.ports[0].nodePort}").strip()
    number = (node or cluster.nodes[-1]).removeprefix("node")
    return f"http://10.88.0.1{number}:{port}"


def place_orders(cluster: Cluster, orders: int, rate: float) -> Outcome:
    """Place orders at a rate per second, and wait for the end of each."""
    with placing_orders(cluster, orders, rate) as outcome:
        pass
    return outcome


@contextmanager
def placing_orders(cluster: Cluster, orders: int, rate: float) -> Iterator[Outcome]:
    """Place orders during a block, and fill in the outcome at its end."""
    arguments = (gateway_url(cluster), str(orders), str(rate), str(PATIENCE))
    command = cluster.in_network([sys.executable, "-m", "tests.cluster.load", *arguments])
    outcome = Outcome()
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as client:
        try:
            yield outcome
            printed, _ = client.communicate(timeout=orders / rate + 2 * PATIENCE + 30)
            for name, value in json.loads(printed).items():
                setattr(outcome, name, value)
        finally:
            client.kill()
