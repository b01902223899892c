"""Detection of HTTP route matches that make a later match unreachable. Envoy tries routes in order."""

from __future__ import annotations

import json
from typing import Any

from labstack.istio.rules.findings import Path

NOT_CONDITIONS = {"name", "statPrefix"}


class Taken:
    """The matches so far, by the requests that they cover.

    A later match is unreachable if an earlier one covers every request, is identical, or has only a prefix of its path.
    Regular expressions are compared only as text.
    """

    def __init__(self) -> None:
        self.everything: Path = ()
        self._same: dict[str, Path] = {}
        self._prefixes: dict[str, Path] = {}
        self._lengths: set[int] = set()

    def add(self, match: dict[str, Any], place: Path) -> None:
        """Record the match at `place`."""
        conditions = _conditions(match)
        if not self.everything and _takes_everything(conditions):
            self.everything = place
        self._same.setdefault(json.dumps(conditions, sort_keys=True), place)
        if set(conditions) == {"uri"} and (prefix := conditions["uri"].get("prefix")):
            self._prefixes.setdefault(prefix, place)
            self._lengths.add(len(prefix))

    def by(self, match: dict[str, Any]) -> Path:
        """Return the place of an earlier match that covers all requests of `match`, or an empty path."""
        conditions = _conditions(match)
        if self.everything:
            return self.everything
        if (same := self._same.get(json.dumps(conditions, sort_keys=True))) is not None:
            return same
        uri = conditions.get("uri", {})
        path = uri.get("exact") or uri.get("prefix")
        if path and "ignoreUriCase" not in conditions:
            heads = (self._prefixes.get(path[:length]) for length in self._lengths if length <= len(path))
            return next((place for place in heads if place is not None), ())
        return ()


def _conditions(match: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in match.items() if name not in NOT_CONDITIONS and value not in ({}, [], "", False)
    }


def _takes_everything(conditions: dict[str, Any]) -> bool:
    uri = conditions.get("uri", {})
    only_uri = set(conditions) <= {"uri", "ignoreUriCase"}
    return only_uri and (not uri or uri.get("prefix") in {"/", ""} or uri.get("regex") == ".*")
