"""Istio's rules for the match of an HTTP route."""

from __future__ import annotations

import re
from typing import Any

from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.names import is_label
from labstack.istio.rules.regexes import pattern_error
from labstack.istio.words import short

HEADER = re.compile(r"[-_A-Za-z0-9]+")
PSEUDO = {":method", ":scheme", ":authority", ":path", ":status"}
CLAIMS = re.compile(r"@request\.auth\.claims[.\[]")


def http_match(match: dict[str, Any], path: Path, found: Findings) -> None:
    """Check one match of an HTTP route."""
    for name in ("headers", "withoutHeaders"):
        for header, form in match.get(name, {}).items():
            inner = (*path, name, header)
            if header not in PSEUDO and not CLAIMS.match(header) and not HEADER.fullmatch(header):
                found.add_problem(inner, f"expected a header name such as x-user, found `{short(header)}`")
            if name == "withoutHeaders" and form.get("regex") == "*":
                continue
            string_match(form, inner, found)
    for name in ("scheme", "method", "authority"):
        if name in match:
            string_match(match[name], (*path, name), found)
    for name, form in match.get("queryParams", {}).items():
        string_match(form, (*path, "queryParams", name), found)
    if "uri" in match:
        string_match(match["uri"], (*path, "uri"), found, empty_prefix=True)
        for form in ("exact", "prefix"):
            value = match["uri"].get(form, "")
            if value and not value.startswith("/"):
                found.add_warning((*path, "uri", form), f"`{short(value)}` never matches: every path starts with `/`")
    method = match.get("method", {}).get("exact", "")
    if method != method.upper():
        found.add_warning((*path, "method", "exact"), f"`{short(method)}` never matches: methods are uppercase")
    port = match.get("port")
    if port is not None and not 0 <= port <= 65535:
        found.add_problem((*path, "port"), f"expected a port from 1 to 65535, found the number {port}")
    namespace = match.get("sourceNamespace")
    if namespace and not is_label(namespace):
        found.add_problem((*path, "sourceNamespace"), f"expected a namespace, found `{short(namespace)}`")


def string_match(form: dict[str, Any], path: Path, found: Findings, *, empty_prefix: bool = False) -> None:
    """Check an exact, prefix or regex match."""
    if form.get("prefix") == "" and not empty_prefix:
        found.add_problem((*path, "prefix"), "the prefix is empty; to match any value, write {} instead")
    if "regex" in form and (wrong := pattern_error(form["regex"])):
        found.add_problem((*path, "regex"), wrong)
