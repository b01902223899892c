"""Check the invariants of a running lab."""

from __future__ import annotations

from labstack.backends.base import Endpoints
from labstack.consistency.evidence import Evidence, collect
from labstack.consistency.invariants import InvariantVerdict, check_invariants
from labstack.waiting import poll_until


def check(where: Endpoints, wait_for_rest: float = 0) -> list[InvariantVerdict]:
    """Evaluate every invariant, from the databases and topics.

    Parameters
    ----------
    where : Endpoints
        Addresses of the lab.
    wait_for_rest : float
        Seconds to wait for the lab to come to rest, so that the invariants of the lab at rest can be evaluated, too.

    Returns
    -------
    list of InvariantVerdict
        One verdict per invariant, in a fixed order.

    Raises
    ------
    NotRunning
        A database or the broker can't be reached.
    """
    seen = collect(where)

    def at_rest() -> bool:
        nonlocal seen
        before, seen = seen, collect(where)
        return is_at_rest(before, seen)

    rests = bool(poll_until(at_rest, wait_for_rest, interval=0.2))
    return check_invariants(seen, at_rest=rests)


def is_at_rest(before: Evidence, now: Evidence) -> bool:
    """Return whether nothing changed between two collections, and no consumer, relay or retry has work left."""
    relay_has_work = any(not now.relay_reads[name] and not now.is_relayed(name) for name in now.tables)
    waits = any(now.lag.values()) or relay_has_work or now.is_retrying
    return not waits and before.movement == now.movement
