"""Identifiers that sort by their creation time: UUID version 7 (RFC 9562)."""

import secrets
import threading
import time
import uuid
from datetime import UTC, datetime

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """Return a new id that is greater than every earlier id of this process.

    The first 48 bits are milliseconds. The next 12 bits (after the version) are the fraction of the millisecond, as in
    the RFC's method 3. The remaining bits are random.
    """
    global _last
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    ticks = milliseconds << 12 | (rest << 12) // 1_000_000
    with _lock:
        _last = ticks = max(ticks, _last + 1)
    value = (ticks >> 12) << 80 | 0x7 << 76 | (ticks & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)


def creation_time(identifier: uuid.UUID) -> datetime | None:
    """Return the creation time of a version 7 id, to the millisecond, or None for another version."""
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC) if identifier.version == 7 else None
