"""Durations in Go's notation, which Istio uses, such as ``1.5s``, ``10ms`` or ``1h30m``."""

from __future__ import annotations

import re
from decimal import Decimal

UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
EXAMPLES = '"2s", "1.5s" or "10ms"'
LONGEST = 2**63 - 1


def nanoseconds(text: str) -> int | None:
    """Return a duration in nanoseconds, or None if `text` is not a duration.

    The notation is that of Go's time.ParseDuration: a sequence of numbers with units and an optional sign, or a bare
    ``0``.
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest or len(rest) > 100:
        return None
    total, at = Decimal(0), 0
    while at < len(rest):
        part = PART.match(rest, at)
        if part is None:
            return None
        total += Decimal(part[1]) * UNITS[part[2]]
        at = part.end()
    return sign * int(total) if total <= LONGEST else None
