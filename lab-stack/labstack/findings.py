"""What a look at this machine found, in either mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "problem"]

NEEDED_DISK = 1_500_000_000
NEEDED_MEMORY = 1_300_000_000


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    Attributes
    ----------
    check : str
        What was looked at.
    verdict : str
        ``ok``, ``warning`` (the lab works, but...) or ``problem`` (it won't).
    seen : str
        What was seen.
    advice : str
        What to do; empty where all is well.
    """

    check: str
    verdict: Verdict
    seen: str
    advice: str = ""
