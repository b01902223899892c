"""Detection of HTTP route matches that make a later match unreachable. Envoy tries routes in order."""

from __future__ import annotations

import json
from typing import Any

from labstack.istio.rules.findings import Path

NOT_CONDITIONS = {"name", "statPrefix"}


class EarlierMatches:
    """The matches so far, by the requests that they cover.

    A later match is unreachable if an earlier one covers every request, is identical, or has only a prefix of its path.
    Regular expressions are compared only as text.
    """

    def __init__(self) -> None:
        self.everything: Path = ()
        self._same: dict[str, Path] = {}
        self._prefixes: dict[str, Path] = {}
        self._lengths: set[int] = set()

    def add(self, match: dict[str, Any], path: Path) -> None:
        """Record the match at `path`."""
        conditions = _conditions(match)
        if not self.everything and _matches_everything(conditions):
            self.everything = path
        self._same.setdefault(json.dumps(conditions, sort_keys=True), path)
        if set(conditions) == {"uri"} and (prefix := conditions["uri"].get("prefix")):
            self._prefixes.setdefault(prefix, path)
            self._lengths.add(len(prefix))

    def covering(self, match: dict[str, Any]) -> Path:
        """Return the path of an earlier match that covers all requests of `match`, or an empty path."""
        conditions = _conditions(match)
        if self.everything:
            return self.everything
        if (same := self._same.get(json.dumps(conditions, sort_keys=True))) is not None:
            return same
        uri = conditions.get("uri", {})
        path = uri.get("exact") or uri.get("prefix")
        if path and "ignoreUriCase" not in conditions:
            prefix_paths = (self._prefixes.get(path[:length]) for length in self._lengths if length <= len(path))
            return next((path for path in prefix_paths if path is not None), ())
        return ()


def _conditions(match: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in match.items() if name not in NOT_CONDITIONS and value not in ({}, [], "", False)
    }


def _matches_everything(conditions: dict[str, Any]) -> bool:
    uri = conditions.get("uri", {})
    only_uri = set(conditions) <= {"uri", "ignoreUriCase"}
    return only_uri and (not uri or uri.get("prefix") in {"/", ""} or uri.get("regex") == ".*")
