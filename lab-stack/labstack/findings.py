"""Results of the preflight checks, for both backends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]

NEEDED_DISK = 1_500_000_000
NEEDED_MEMORY = 1_300_000_000


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    check : str
        Name of the check.
    verdict : str
        ``ok``, ``warning`` (the lab works, but with a limitation) or ``problem`` (it does not work).
    seen : str
        What the check found.
    advice : str
        What to do; empty if nothing.
    """

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
