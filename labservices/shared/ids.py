"""Identifiers that sort by the time they were made: UUID version 7 (RFC 9562)."""

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """Make an id that is greater than every id made by this process before.

    The first 48 bits are milliseconds, the next 12 (after the version) are the fraction of the millisecond, as in the
    RFC's method 3; what remains is random.
    """
    global _last
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    ticks = milliseconds << 12 | (rest << 12) // 1_000_000
    with _lock:
        _last = ticks = max(ticks, _last + 1)
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)


def made_at(identifier: uuid.UUID) -> datetime | None:
    """Return the moment at which an id of version 7 was made, to the millisecond; None for an id of another version."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC) if identifier.version == 7 else None
