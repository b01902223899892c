"""The referee, applied to the four services of a test instead of a lab."""

from collections.abc import Sequence

from labservices.record import Record
from labstack.clients import broker
from labstack.consistency.evidence import Evidence, read_database
from labstack.consistency.invariants import InvariantVerdict, check_invariants
from tests.services.world import World


def run_referee(world: World, records: list[Record]) -> list[InvariantVerdict]:
    """Check every invariant, as for a lab at rest."""
    return check_invariants(collect_evidence(world, records), at_rest=True)


def collect_evidence(world: World, records: list[Record], letters: Sequence[Record] = ()) -> Evidence:
    """Return the evidence of a world whose records and dead letters are given."""
    seen = {
        name: read_database(harness.runtime.settings.database_url, name) for name, harness in world.harnesses.items()
    }
    return Evidence(
        tables={name: tables for name, (tables, _) in seen.items()},
        relay_reads=dict.fromkeys(seen, False),
        records=[_as_read(record) for record in records],
        letters=[_as_read(letter) for letter in letters],
    )


def _as_read(record: Record) -> broker.Record:
    """Return a record as the lab's client of Kafka reads it."""
    return broker.Record(
        record.topic, record.partition, record.offset, 0, record.key, dict(record.headers), record.value
    )
