"""Matches: the requests to which a route applies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import matcher_v3, route_v3

Match = Mapping[str, Any]


def route_match(match: Match | None) -> route_v3.RouteMatch:
    """Return Envoy's match for an Istio match. None matches every request."""
    result = route_v3.RouteMatch(prefix="/")
    if match is None:
        return result
    result.case_sensitive.value = not match.get("ignoreUriCase", False)
    _match_path(result, match.get("uri", {}))
    headers = [_header(name, each) for name, each in match.get("headers", {}).items()]
    headers += [_absent_header(name, each) for name, each in match.get("withoutHeaders", {}).items()]
    result.headers.extend(sorted(headers, key=lambda header: header.name))
    for name in ("method", "authority", "scheme"):
        if name in match:
            result.headers.append(_header(f":{name}", match[name]))
    # istiod emits these in no particular order.
    for name, each in sorted(match.get("queryParams", {}).items()):
        result.query_parameters.append(_query_parameter(name, each))
    return result


def is_catch_all(route: route_v3.Route) -> bool:
    """Report whether a route matches every request, so that no later route is reached."""
    match = route.match
    return (match.prefix == "/" or match.safe_regex.regex == ".*") and not match.headers and not match.query_parameters


def string_matcher(match: Match) -> matcher_v3.StringMatcher | None:
    """Return Envoy's matcher for a text, or None if the match is empty."""
    if "exact" in match:
        return matcher_v3.StringMatcher(exact=match["exact"])
    if "prefix" in match:
        return matcher_v3.StringMatcher(prefix=match["prefix"])
    if "regex" in match:
        return matcher_v3.StringMatcher(safe_regex={"regex": match["regex"]})
    return None


def _match_path(result: route_v3.RouteMatch, uri: Match) -> None:
    if "exact" in uri:
        result.path = uri["exact"]
    elif "prefix" in uri:
        result.prefix = uri["prefix"]
    elif "regex" in uri:
        result.safe_regex.regex = uri["regex"]


def _asks_for_presence(match: Match) -> bool:
    """Report whether a match only requires presence. ``*``, not a valid regular expression, means the same."""
    return not match or match.get("regex") == "*"


def _header(name: str, match: Match) -> route_v3.HeaderMatcher:
    if _asks_for_presence(match):
        return route_v3.HeaderMatcher(name=name, present_match=True)
    return route_v3.HeaderMatcher(name=name, string_match=string_matcher(match))


def _absent_header(name: str, match: Match) -> route_v3.HeaderMatcher:
    result = _header(name, match)
    result.invert_match = True
    # A missing header can't have an excluded value, so it satisfies the inverted match.
    result.treat_missing_header_as_empty = not _asks_for_presence(match)
    return result


def _query_parameter(name: str, match: Match) -> route_v3.QueryParameterMatcher:
    if _asks_for_presence(match):
        return route_v3.QueryParameterMatcher(name=name, present_match=True)
    return route_v3.QueryParameterMatcher(name=name, string_match=string_matcher(match))
