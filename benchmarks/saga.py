"""The time until an order is COMPLETED, and the number of orders per second that the lab sustains.

The benchmark has three steps, each for 1, 2 and 4 consumer processes per service:

* latency at a modest rate, compared with the bare five-hop chain in the same run (see `chain.py`, `order_load.py`),
* a search for the highest rate at which every order is COMPLETED within five seconds: short tries at increasing rates
  until one fails,
* the proof: the highest rate that held, sustained for two minutes, or the next lower rate if it does not hold.

The additional consumers are processes of ``python -m labservices SERVICE --consumer-only`` with the service's settings.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from benchmarks.bare import bare_relay
from benchmarks.chain import run_chain
from benchmarks.figures import Latency
from benchmarks.order_load import IN_TIME, LoadResult, run_load
from benchmarks.own_lab import own_lab
from benchmarks.start import cpu_seconds
from labstack.backends.processes import process
from labstack.backends.processes.backend import LocalBackend
from labstack.clients import broker, consumer_groups, http
from labstack.lab import Lab, access_of
from labstack.process_id import ProcessId
from labstack.waiting import poll_until

LATENCY_RATE = 10.0
"""Orders per second at which latency is measured."""

RATES = (20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 100.0, 120.0, 150.0, 200.0)
"""Orders per second that the search tries, one after another."""


def measure(*, quick: bool, console: Console, consumers: Sequence[int] = ()) -> dict[str, Any]:
    """Measure the bare chain, then the lab with 1, 2 and 4 (or other numbers of) consumer processes per service."""
    numbers = consumers or ((1, 2) if quick else (1, 2, 4))
    modest_seconds, skip = (6.0, 2.0) if quick else (60.0, 5.0)
    with bare_relay() as bare:
        bare.start()
        chain = Latency.of(run_chain(bare, LATENCY_RATE, modest_seconds, skip))
    console.print(f"bare five-hop chain: p95 {chain.p95:.0f} ms")
    runs = []
    with own_lab() as lab:
        lab.up()
        run_load(lab.endpoints, LATENCY_RATE, 2.0 if quick else 20.0)  # warm up code that is compiled while it runs
        for number in numbers:
            with more_consumers(lab, number - 1):
                latency = run_load(lab.endpoints, LATENCY_RATE, modest_seconds)
                console.print(f"{number} consumer(s) per service, {LATENCY_RATE:.0f}/s: {summary(latency)}")
                tries = _search(lab, RATES[:1] if quick else RATES, 4.0 if quick else 20.0, console)
            proof = _sustain(lab, number, tries, 6.0 if quick else 120.0, console)
            runs.append(
                {
                    "consumers": number,
                    "latency": latency.to_json(),
                    "tries": [one.to_json() for one, _ in tries],
                    "proof": [one.to_json() for one, _ in proof],
                    "cpu_of_proof_cores": proof[-1][1] if proof else None,
                    "sustained_orders_per_s": next((one.rate for one, _ in proof if one.holds), 0.0),
                }
            )
            lab.reset()
    return {"quick": quick, "modest_rate": LATENCY_RATE, "in_time_s": IN_TIME, "five_hops_ms": chain, "runs": runs}


def _search(
    lab: Lab, rates: tuple[float, ...], seconds: float, console: Console
) -> list[tuple[LoadResult, dict[str, float]]]:
    """Try one rate after another until one does not hold."""
    tries = []
    for rate in rates:
        tries.append(_try(lab, rate, seconds, console))
        if not tries[-1][0].holds:
            break
    return tries


def _sustain(
    lab: Lab, consumers: int, tries: list[tuple[LoadResult, dict[str, float]]], seconds: float, console: Console
) -> list[tuple[LoadResult, dict[str, float]]]:
    """Sustain the highest rate that held in a try; if it does not hold, the next lower one, and so on."""
    proof = []
    for rate in sorted((one.rate for one, _ in tries if one.holds), reverse=True):
        # Rows, dead rows and a backlog that an earlier overload left must not affect this rate.
        lab_is_at_rest(lab)
        lab.reset()
        with more_consumers(lab, consumers - 1):
            proof.append(_try(lab, rate, seconds, console))
        if proof[-1][0].holds:
            break
    return proof


def _try(lab: Lab, rate: float, seconds: float, console: Console) -> tuple[LoadResult, dict[str, float]]:
    """Run one load; return its result, and the cores that each component used until the backlog was done."""
    before = cpu_seconds(access_of(lab).backend())
    result = run_load(lab.endpoints, rate, seconds)
    after = cpu_seconds(access_of(lab).backend())
    console.print(f"  {rate:.0f}/s over {seconds:.0f} s: {summary(result)}")
    return result, {name: (after[name] - before[name]) / result.took for name in before}


def lab_is_at_rest(lab: Lab, timeout: float = 120) -> bool:
    """Wait until every service has consumed all records, and report whether it did within `timeout` seconds."""
    kafka = lab.endpoints.kafka
    topics = [service.events_topic for service in access_of(lab).services]

    def no_lag() -> bool:
        ends = broker.end_offsets(kafka, broker.partitions(kafka, topics))
        for service in access_of(lab).services:
            committed = consumer_groups.committed_offsets(kafka, service.name)
            if any(offset < ends[partition] for partition, offset in committed.items() if partition in ends):
                return False
        return True

    return bool(poll_until(no_lag, timeout, interval=0.2))


def change_consumers(lab: Lab, verb: Literal["pause", "resume"]) -> None:
    """Let the consumers of all services leave their groups, or join them again."""
    for url in lab.endpoints.services.values():
        http.request("POST", f"{url}/manage/consumer/{verb}", timeout=15).raise_for_status()


@contextmanager
def more_consumers(lab: Lab, number: int) -> Iterator[None]:
    """Run this number of additional consumers of each service during the block."""
    backend = access_of(lab).backend()
    assert isinstance(backend, LocalBackend)
    lab_id = backend.store.read().lab_id
    started: list[ProcessId] = []
    try:
        for service in access_of(lab).services:
            command = backend.component(service.name).prepare()
            for extra in range(number):
                name = f"{service.name}-consumer-{extra + 2}"
                argv = [sys.executable, "-m", "labservices", service.name, "--consumer-only"]
                extra_command = process.Command(argv, command.cwd, command.env)
                # With the lab's own marker, `lab.down()` stops these consumers, too, if this process can't.
                started.append(process.spawn(extra_command, access_of(lab).paths.log(name), f"{lab_id}/{name}"))
        if not poll_until(lambda: members(lab) == [1 + number] * len(access_of(lab).services), 60, interval=0.2):
            raise RuntimeError(f"the consumer groups have {members(lab)} members with partitions")
        yield
    finally:
        for identity in started:
            process.end(identity, signal.SIGTERM, grace=3)
        poll_until(lambda: members(lab) == [1] * len(access_of(lab).services), 20, interval=0.2)


def members(lab: Lab) -> list[int]:
    """Return how many members of each consumer group have partitions."""
    groups = [service.name for service in access_of(lab).services]
    with broker.admin(lab.endpoints.kafka) as client:
        futures = client.describe_consumer_groups(groups, request_timeout=10)
        described = {group: future.result(broker.REQUEST_TIMEOUT) for group, future in futures.items()}
    with_partitions = [
        [member for member in described[group].members if member.assignment and member.assignment.topic_partitions]
        for group in groups
    ]
    return [len(found) for found in with_partitions]


def summary(result: LoadResult) -> str:
    """Return a load's latencies, and whether its rate holds, in one line."""
    latency = Latency.of(result.until_record)
    wrong = [f"{count} {name}" for name in ("refused", "unfinished", "late") if (count := getattr(result, name))]
    return f"{len(result.sent)} orders, p50 {latency.p50:.0f}, p95 {latency.p95:.0f}, most {latency.most:.0f} ms, " + (
        "holds" if result.holds else ", ".join(wrong)
    )


def show(results: dict[str, Any], console: Console) -> None:
    """Print the tables."""
    chain: Latency = results["five_hops_ms"]
    title = f"Order → COMPLETED in ms, at {results['modest_rate']:.0f} orders/s"
    table = Table("what", "n", "p50", "p95", "p99", "most", "p95 / chain's", title=title)
    table.add_row("the bare five-hop chain", *chain.cells(), "1.0")
    for run in results["runs"]:
        for name, key in (
            ("POST answered", "until_answer_ms"),
            ("row says COMPLETED", "until_row_completed_ms"),
            ("OrderCompleted consumed", "until_record_consumed_ms"),
        ):
            latency: Latency = run["latency"][key]
            ratio = f"{latency.p95 / chain.p95:.2f}" if key != "until_answer_ms" else ""
            table.add_row(f"{run['consumers']} consumer(s): {name}", *latency.cells(), ratio)
    console.print(table)
    title = f"Orders per second at which every order is COMPLETED within {results['in_time_s']:.0f} s"
    table = Table("consumers per service", "sustained (orders/s)", "over (s)", "p50 (ms)", "p95 (ms)", title=title)
    for run in results["runs"]:
        held = next((one for one in run["proof"] if one["holds"]), None)
        cells = (
            [f"{held['seconds']:.0f}", *(f"{getattr(held['until_record_consumed_ms'], p):.0f}" for p in ("p50", "p95"))]
            if held
            else ["", "", ""]
        )
        table.add_row(str(run["consumers"]), f"{run['sustained_orders_per_s']:.0f}", *cells)
    console.print(table)
    last = results["runs"][0]["cpu_of_proof_cores"]
    if last:
        busy = ", ".join(f"{name} {cores:.2f}" for name, cores in sorted(last.items(), key=lambda one: -one[1]))
        console.print(f"cores in use at one consumer's sustained rate: {busy}; in all {sum(last.values()):.2f}")
