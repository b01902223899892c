"""The actions of scenarios: place orders, break components, and repair them."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter

import httpx
import psycopg
from confluent_kafka import Producer

from labstack.clients import broker, http
from labstack.clients.databases import connect
from labstack.errors import BrokerUnavailable, DemoFailed, LabError
from labstack.scenarios.stage import ConditionNotMet, ScenarioStage
from labstack.scenarios.verbs import Kind, verb

LAB_VERBS: tuple[tuple[Kind, str, str], ...] = (
    ("fault", "stop", "stop"),
    ("fault", "kill", "faults.kill"),
    ("fault", "pause", "faults.pause"),
    ("action", "resume", "faults.resume"),
    ("action", "start", "start"),
)
"""The kind and name of each verb that changes one component, and the method of the lab."""

CONCURRENT_REQUESTS = 4
"""Number of concurrent requests of a scenario."""


# -- customers -----------------------------------------------------------------------------------------------------


@verb("action", "order {name!r}: {customer} to {destination}[, {items}][, {times} times]")
def order(
    stage: ScenarioStage,
    name: str,
    *,
    customer: str = "ada",
    destination: str = "lisbon",
    items: dict[str, int] | None = None,
    times: int = 1,
) -> None:
    """Place orders through the gateway, one after the other, and store their ids under `name`."""
    lines = [{"sku": sku, "quantity": n} for sku, n in (items or {"earl-grey": 1}).items()]
    body = {"customer_id": customer, "destination": destination, "items": lines}
    url = f"{stage.lab.endpoints.client('order')}/orders"
    for _ in range(times):
        answer = http.request("POST", url, json=body, timeout=15)
        if answer.status_code != 201:
            raise DemoFailed(
                f"Scenario {stage.scenario}: the order request returned {answer.status_code}: {answer.text[:200]}",
                next_step="run `lab status` to see which component is down, or `lab reset` to restore the lab",
            )
        stage.orders.setdefault(name, []).append(answer.json()["order_id"])
        stage.save()


@verb("action", "the customer cancels {name!r}")
def cancel(stage: ScenarioStage, name: str) -> None:
    """Cancel orders as their customer would, through the gateway."""
    for order_id in stage.ids(name):
        url = f"{stage.lab.endpoints.client('order')}/orders/{order_id}/cancel"
        if (answer := http.request("POST", url, timeout=15)).status_code != 202:
            raise ConditionNotMet(
                f"Scenario {stage.scenario}: the cancel request returned {answer.status_code}, not 202."
            )


@verb("action", "{times} requests {name!r}: {method} {path}")
def requests(
    stage: ScenarioStage,
    name: str,
    *,
    path: str = "/orders?limit=1",
    method: str = "GET",
    times: int = 20,
    timeout: float = 15,
) -> None:
    """Send requests through the gateway and count the answers by status; one without an answer has the status 0."""
    body = {"customer_id": "ada", "destination": "lisbon", "items": [{"sku": "earl-grey", "quantity": 1}]}
    with http.client(stage.lab.endpoints.client("order"), timeout=timeout) as client:

        def send(_: int) -> str:
            try:
                return str(client.request(method, path, json=body if method == "POST" else None).status_code)
            except httpx.HTTPError:
                return "0"

        with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
            stage.answers[name] = Counter(pool.map(send, range(times)))
    stage.save()


# -- components ----------------------------------------------------------------------------------------------------


def _register_lab_verb(kind: Kind, name: str, method: str) -> None:
    """Register a method of the lab that changes one component as a verb of the scenarios."""

    def function(stage: ScenarioStage, component: str) -> None:
        attrgetter(method)(stage.lab)(component)

    function.__name__ = name
    verb(kind, f"lab {name} {{component}}")(function)


for _verb in LAB_VERBS:
    _register_lab_verb(*_verb)


@verb("action", "lab start {component}, which fails and reports why")
def start_in_vain(stage: ScenarioStage, component: str) -> None:
    """Start a component that must fail to become ready.

    Raises
    ------
    ConditionNotMet
        The start succeeded, so the fault had no effect.
    """
    try:
        stage.lab.start(component)
    except LabError:
        return
    raise ConditionNotMet(f"Scenario {stage.scenario}: {component} started, so the fault had no effect.")


@verb("fault", "lab switch on {service} {switch}[={value}]")
def switch_on(stage: ScenarioStage, service: str, *, switch: str, value: str = "") -> None:
    """Turn a fault switch of a service on."""
    stage.lab.faults.on(service, switch, value)


@verb("action", "lab switch off {service}")
def switch_off(stage: ScenarioStage, service: str) -> None:
    """Turn all fault switches of a service off."""
    stage.lab.faults.off(service)


# -- the gateway ---------------------------------------------------------------------------------------------------


@verb("fault", "lab mesh apply, with:\n{yaml}")
def mesh(stage: ScenarioStage, yaml: str) -> None:
    """Apply Istio resources."""
    stage.lab.mesh.apply(yaml)


@verb("action", "lab mesh reset")
def mesh_reset(stage: ScenarioStage, _: bool) -> None:
    """Restore the lab's default mesh configuration."""
    stage.lab.mesh.reset()


# -- databases and topics ------------------------------------------------------------------------------------------


@verb("fault", "in {service}'s database[, {times} times]: {statement}")
def sql(stage: ScenarioStage, service: str, *, statement: str, times: int = 1) -> None:
    """Run a statement in a service's database, each time in a separate transaction."""
    try:
        url = stage.lab.endpoints.databases[service]
        with connect(url, timeout=5, autocommit=True) as connection:
            for _ in range(times):
                connection.execute(statement.encode(), stage.parameters or None)
    except psycopg.Error as error:
        raise LabError(
            f"Scenario {stage.scenario}: {service}'s database rejected a statement: {str(error).splitlines()[0]}",
            next_step="run `lab reset` to restore the lab",
        ) from error


@verb("fault", "copy the {type} of {name!r} into {topic} with the partitioner {partitioner}")
def copy_records(stage: ScenarioStage, name: str, *, topic: str, type: str, partitioner: str) -> None:
    """Publish records of orders again with the same key, headers and value, but with another partitioner."""
    kafka = stage.lab.endpoints.kafka
    wanted = set(stage.ids(name))

    def found() -> list[broker.Record]:
        return [r for r in broker.read_all(kafka, [topic]) if r.key in wanted and r.type == type]

    stage.expect(f"{type} of {name}", found, lambda records: len(records) >= len(wanted))
    producer = Producer({"bootstrap.servers": kafka, "partitioner": partitioner})
    for record in found():
        headers: list[tuple[str, str | bytes | None]] = [(key, value) for key, value in record.headers.items()]
        producer.produce(topic, record.value, record.key, headers=headers)
    if left := producer.flush(15):
        raise BrokerUnavailable(f"The broker did not accept {left} records.", next_step="look at `lab status`")


@verb("action", "replay {service}'s dead letters: lab dead-letters replay")
def replay(stage: ScenarioStage, service: str) -> None:
    """Replay every dead letter of a service."""
    for letter in stage.lab.dead_letters.all():
        if letter.service == service and (again := stage.lab.dead_letters.replay(letter.id)):
            raise ConditionNotMet(f"Scenario {stage.scenario}: {again.id} failed again: {again.error}")


@verb("action", "lab outbox resend, for {name!r}")
def resend(stage: ScenarioStage, name: str) -> None:
    """Resend every event of some orders."""
    for order_id in stage.ids(name):
        stage.lab.resend(order_id)


@verb("action", "lab reset")
def reset(stage: ScenarioStage, _: bool) -> None:
    """Reset the lab to the course's start."""
    stage.lab.reset()
