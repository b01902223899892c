"""Matches: which requests a route is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.mesh.envoy_api import matcher_v3, route_v3

Match = Mapping[str, Any]


def route_match(match: Match | None) -> route_v3.RouteMatch:
    """Return Envoy's match for one of Istio's; None matches everything."""
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
    # istiod gives these in no particular order.
    for name, each in sorted(match.get("queryParams", {}).items()):
        result.query_parameters.append(_query_parameter(name, each))
    return result


def is_catch_all(route: route_v3.Route) -> bool:
    """Say whether a route takes every request, so that none behind it is ever reached."""
    match = route.match
    return (match.prefix == "/" or match.safe_regex.regex == ".*") and not match.headers and not match.query_parameters


def string_matcher(match: Match) -> matcher_v3.StringMatcher | None:
    """Return Envoy's matcher of a text; None where nothing is said of it."""
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
    """Say whether a match only asks that there is something; ``*`` is no regular expression, and asks the same."""
    return not match or match.get("regex") == "*"


def _header(name: str, match: Match) -> route_v3.HeaderMatcher:
    if _asks_for_presence(match):
        return route_v3.HeaderMatcher(name=name, present_match=True)
    return route_v3.HeaderMatcher(name=name, string_match=string_matcher(match))


def _absent_header(name: str, match: Match) -> route_v3.HeaderMatcher:
    result = _header(name, match)
    result.invert_match = True
    # A header that isn't there has no value that could be the wrong one.
    result.treat_missing_header_as_empty = not _asks_for_presence(match)
    return result


def _query_parameter(name: str, match: Match) -> route_v3.QueryParameterMatcher:
    if _asks_for_presence(match):
        return route_v3.QueryParameterMatcher(name=name, present_match=True)
    return route_v3.QueryParameterMatcher(name=name, string_match=string_matcher(match))
