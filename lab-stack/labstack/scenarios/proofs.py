"""The proofs of scenarios. Each waits for a condition of the system: a database, a topic, the gateway, a process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from labservices.contract import TERMINAL, events_topic
from labstack.clients import broker, consumer_groups, http
from labstack.clients.relay import Relay, connector_name
from labstack.clients.replication import retained_bytes
from labstack.lab import access_of
from labstack.scenarios.stage import ScenarioStage
from labstack.scenarios.verbs import verb


def _within(at_least: float, at_most: float | None) -> Callable[[float], bool]:
    return lambda number: number >= at_least and (at_most is None or number <= at_most)


def _order(stage: ScenarioStage, order_id: str) -> dict[str, Any]:
    """Query the order service directly, because the gateway may be broken."""
    answer: dict[str, Any] = http.get(f"{stage.lab.endpoints.services['order']}/orders/{order_id}", timeout=5).json()
    return answer


@verb("proof", "every order {name!r} is {status}[: {reason}]")
def reaches(stage: ScenarioStage, name: str, *, status: str, reason: str = "") -> None:
    """Wait until all orders have a status and, if given, a failure reason."""

    def probe() -> list[tuple[str, str]]:
        found = [_order(stage, one) for one in stage.ids(name)]
        return sorted((one["status"], one["failure_reason"] or "") for one in found)

    stage.expect(
        f"{name} {status} {reason}".strip(),
        probe,
        lambda found: all(s == status and reason in ("", r) for s, r in found),
    )


@verb("proof", "every order {name!r} is COMPLETED or CANCELLED")
def ended(stage: ScenarioStage, name: str) -> None:
    """Wait until all orders have a terminal status."""
    stage.expect(
        f"the end of {name}",
        lambda: sorted(_order(stage, one)["status"] for one in stage.ids(name)),
        lambda found: set(found) <= set(TERMINAL),
    )


@verb("proof", "in {service}'s database, {query} is[ {equals}][ {at_least} or more]")
def rows(stage: ScenarioStage, service: str, *, query: str, equals: Any = None, at_least: float | None = None) -> None:
    """Wait until the first column of a query's first row equals or reaches a value."""

    def wanted(found: list[tuple[Any, ...]]) -> bool:
        if not found:
            return False
        value = found[0][0]
        return value == equals if at_least is None else value is not None and float(value) >= at_least

    stage.expect(f"{query} in {service}'s database", lambda: stage.rows(service, query), wanted)


@verb("proof", "{component} is {state}")
def component(stage: ScenarioStage, component: str, *, state: str) -> None:
    """Wait until a component is ``running``, ``paused``, ``stopped`` or ``failed``."""
    access = access_of(stage.lab)

    def probe() -> str:
        return access.backend().inspect(component).state

    stage.expect(f"{component} {state}", probe, lambda found: found == state)


@verb("proof", "the connector of {service} is {state}")
def connector(stage: ScenarioStage, service: str, *, state: str) -> None:
    """Wait until a connector's task has a state, such as FAILED."""
    relay, name = Relay(stage.lab.endpoints.connect), connector_name(service)

    def probe() -> str:
        states = relay.task_states()
        return next((found for key, found in states.items() if key in (service, name)), "")

    stage.expect(f"connector of {service} {state}", probe, lambda found: found == state)


@verb(
    "proof",
    "PostgreSQL retains[ {at_least} bytes or more][ {at_most} bytes or less] of write-ahead log for {service}'s slot",
)
def retains(stage: ScenarioStage, service: str, *, at_least: int = 0, at_most: int | None = None) -> None:
    """Wait until a service's outbox slot retains a number of bytes of write-ahead log within bounds."""
    url = stage.lab.endpoints.databases[service]
    stage.expect(f"retained log of {service}", lambda: retained_bytes(url), _within(at_least, at_most))


@verb("proof", "{service} is[ {at_least} or more][ {at_most} or less] records behind in {topic}")
def lags(stage: ScenarioStage, service: str, *, topic: str, at_least: int = 0, at_most: int | None = None) -> None:
    """Wait until the lag of a service's consumer group in a topic is within bounds, in records."""
    kafka = stage.lab.endpoints.kafka

    def probe() -> int:
        return sum(consumer_groups.lag(kafka, service, [topic]).values())

    stage.expect(f"lag of {service} in {topic}", probe, _within(at_least, at_most))


@verb("proof", "{service} has dead-lettered {count} record(s)[, and {behind} or more wait behind]")
def dead_letters(stage: ScenarioStage, service: str, *, count: int, behind: int = 0) -> None:
    """Wait until a service has `count` dead letters, and at least `behind` records are parked behind them."""

    def probe() -> tuple[int, int]:
        letters = [letter for letter in stage.lab.dead_letters.all() if letter.service == service]
        return len(letters), sum(letter.behind for letter in letters)

    stage.expect(f"dead letters of {service}", probe, lambda found: found[0] == count and found[1] >= behind)


@verb("proof", "of the requests {name!r},[ {at_least} or more][ {at_most} or less] returned {status}")
def answered(stage: ScenarioStage, name: str, *, status: int, at_least: int = 1, at_most: int | None = None) -> None:
    """Check that the number of requests with a status is within bounds; status 0 stands for no answer in time."""

    wanted = _within(at_least, at_most)
    timeout, stage.timeout = stage.timeout, 0.0  # the answers are complete and won't change
    try:
        stage.expect(f"answers {status} to {name}", lambda: stage.answers[name][str(status)], wanted)
    finally:
        stage.timeout = timeout


@verb("proof", "Envoy counts {statistic}:[ {at_least} or more][ {at_most} or less]")
def envoy(stage: ScenarioStage, statistic: str, *, at_least: int = 0, at_most: int | None = None) -> None:
    """Wait until the sum of Envoy's counters whose names match a regular expression is within bounds."""
    wanted = _within(at_least, at_most)
    stage.expect(f"Envoy's {statistic}", lambda: sum(stage.lab.mesh.statistics(statistic).values()), wanted)


@verb("proof", "{service} has handled {at_least} or more events with the outcome {outcome}")
def outcomes(stage: ScenarioStage, service: str, *, outcome: str, at_least: int) -> None:
    """Wait until a service has counted `at_least` events with an outcome (``handled``, ``duplicate``, ``ignored`` ...).

    The service counts since its process started.
    """
    url = f"{stage.lab.endpoints.services[service]}/metrics"

    def probe() -> float:
        families = text_string_to_metric_families(http.get(url).text)
        samples = [sample for family in families for sample in family.samples if sample.name == "events_total"]
        return sum(sample.value for sample in samples if sample.labels["outcome"] == outcome)

    stage.expect(f"{service}'s events with the outcome {outcome}", probe, _within(at_least, None))


@verb(
    "proof",
    "the gateway's log has {at_least} or more requests for {path}[ with {tries} or more tries]"
    "[ that took {took} s or longer][ with the flag {flag}]",
)
def logged(
    stage: ScenarioStage, path: str, *, at_least: int = 1, tries: int = 0, took: float = 0, flag: str = ""
) -> None:
    """Wait for requests of a path in the gateway's access log that meet all given conditions.

    The conditions are a minimum of tries, a minimum of seconds and a flag.
    """

    def matches(line: dict[str, Any]) -> bool:
        return (
            str(line.get("path", "")).startswith(path)
            and int(line.get("attempts") or 0) >= tries
            and float(line.get("duration") or 0) >= took * 1000
            and (not flag or flag in str(line.get("response_flags")).split(","))
        )

    def probe() -> int:
        return sum(matches(line) for line in stage.lab.mesh.access_log(400))

    stage.expect(f"the gateway's log of {path}", probe, lambda found: found >= at_least)


@verb("proof", "{at_least} or more of the orders {name!r} have records in several partitions of {topic}")
def scattered(stage: ScenarioStage, name: str, *, topic: str, at_least: int = 1) -> None:
    """Wait until the records of some keys are in more than one partition of a topic."""
    wanted = set(stage.ids(name))

    def probe() -> int:
        places: dict[str, set[int]] = defaultdict(set)
        for record in broker.read_all(stage.lab.endpoints.kafka, [topic]):
            if record.key in wanted:
                places[record.key].add(record.partition)
        return sum(len(found) > 1 for found in places.values())

    stage.expect(f"keys in several partitions of {topic}", probe, lambda found: found >= at_least)


@verb("proof", "the records of {name!r} belong to {count} traces")
def traces(stage: ScenarioStage, name: str, *, count: int) -> None:
    """Wait until the records of an order belong to `count` traces; a record without a trace counts as a separate one.

    A count above 1 is a minimum. The order with the most traces counts.
    """
    ids = stage.ids(name)
    topics = [events_topic(service) for service in stage.lab.endpoints.services]

    def probe() -> int:
        found: dict[str, set[str]] = defaultdict(set)
        for record in broker.read_all(stage.lab.endpoints.kafka, topics):
            if record.key in ids:
                parent = record.headers.get("traceparent") or f"-none of {record.headers.get('ce_id')}"
                found[record.key].add(parent.split("-")[1])
        return max((len(traces) for traces in found.values()), default=0)

    stage.expect(f"traces of {name}", probe, lambda found: found == count or (count > 1 and found > count))


@verb("proof", "the alert {alert} fires")
def fires(stage: ScenarioStage, alert: str) -> None:
    """Wait until a Prometheus alert fires. Without Prometheus, return at once."""
    url = stage.lab.endpoints.prometheus
    if not url:
        return

    def probe() -> list[str]:
        found = http.get(f"{url}/api/v1/alerts").json()["data"]["alerts"]
        return sorted({one["labels"]["alertname"] for one in found if one["state"] == "firing"})

    stage.expect(f"alert {alert}", probe, lambda names: alert in names)


@verb("proof", "the referee reports that {invariant} is violated")
def violated(stage: ScenarioStage, invariant: str) -> None:
    """Wait until the referee reports that an invariant of the saga is violated."""

    def probe() -> list[str]:
        return [verdict.name for verdict in stage.lab.check(5) if verdict.holds is False]

    stage.expect(f"{invariant} violated", probe, lambda names: invariant in names)
