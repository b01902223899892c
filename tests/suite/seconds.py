"""Durations of tests in earlier runs, which determine the order of the tests and the expected minutes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("seconds.json")
UNKNOWN = 0.2
"""Expected seconds of a test whose file has no record."""

OWN_ENTRY_SECONDS = 2.0
"""Seconds from which a test has its own entry. The other tests of a file share one entry, their mean."""


class Seconds:
    """Recorded seconds by node id, and by file for tests without an entry.

    Parameters
    ----------
    recorded : mapping of str to float
        The content of ``seconds.json``.
    """

    def __init__(self, recorded: Mapping[str, float]) -> None:
        self._recorded = recorded

    @classmethod
    def read(cls, file: Path = FILE) -> Seconds:
        """Return the recorded seconds; empty if there is no file."""
        return cls(json.loads(file.read_text(encoding="utf-8")) if file.exists() else {})

    def of(self, nodeid: str) -> float:
        """Return the expected seconds of a test."""
        plain = plain_id(nodeid)
        own = self._recorded.get(plain)
        return self._recorded.get(plain.partition("::")[0], UNKNOWN) if own is None else own

    def has(self, nodeid: str) -> bool:
        """Report whether this test has its own record."""
        return plain_id(nodeid) in self._recorded


def plain_id(nodeid: str) -> str:
    """Return a node id without the group that xdist appends to it.

    Examples
    --------
    >>> plain_id("tests/stack/test_reset.py::test_x[a@b]@lab-1")
    'tests/stack/test_reset.py::test_x[a@b]'
    """
    return nodeid.rpartition("@")[0] if nodeid.rfind("@") > nodeid.rfind("]") and "@" in nodeid else nodeid


def write(took: Mapping[str, float], file: Path = FILE) -> None:
    """Record the seconds of a run."""
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(summarize(took, before), indent=0) + "\n", encoding="utf-8")


def summarize(took: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """Return the content of ``seconds.json`` after a run. Tests that did not run keep their entries.

    Parameters
    ----------
    took : mapping of str to float
        Seconds by node id.
    before : mapping of str to float
        The previous content.
    """
    rest = defaultdict(list)
    after = {name: value for name, value in before.items() if name not in took}
    for nodeid, seconds in took.items():
        if seconds >= OWN_ENTRY_SECONDS:
            after[nodeid] = round(seconds, 1)
        else:
            rest[nodeid.partition("::")[0]].append(seconds)
    after |= {file: round(sum(several) / len(several), 2) for file, several in rest.items()}
    return dict(sorted(after.items()))
