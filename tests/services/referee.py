"""The referee, applied to the four services of a test instead of a lab."""

from collections import Counter

from labservices.messaging.record import Record
from labstack.consistency.evidence import Evidence, _read_database
from labstack.consistency.invariants import Verdict, check_invariants
from tests.services.world import World


def run_referee(world: World, records: list[Record]) -> list[Verdict]:
    """Check every invariant, as for a lab at rest."""
    seen = {
        name: _read_database(harness.runtime.settings.database_url, name) for name, harness in world.harnesses.items()
    }
    evidence = Evidence(
        tables={name: look.tables for name, look in seen.items()},
        outbox={name: look.outbox for name, look in seen.items()},
        inbox={name: look.inbox for name, look in seen.items()},
        parked={name: look.parked for name, look in seen.items()},
        relay_reads=dict.fromkeys(seen, False),
        records=Counter(record.headers["ce_id"] for record in records),
    )
    return check_invariants(evidence, at_rest=True)
