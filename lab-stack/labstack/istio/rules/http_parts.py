"""Istio's rules for parts of an HTTP route: fault, retries, redirect, rewrite, direct response, CORS and headers."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from labstack.istio import durations
from labstack.istio.rules.destination_rule import whole_milliseconds
from labstack.istio.rules.findings import Findings, Path
from labstack.istio.rules.http_match import HEADER
from labstack.istio.rules.regexes import pattern_error
from labstack.istio.words import did_you_mean, listed, short

RETRY_ON = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
STATUSES = {str(status.value) for status in HTTPStatus}
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "*",
)
GRPC = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
HEADER_VALUE = re.compile(r"([^%]|%%|%[^%(]+(\([^)]*\))? *%)*", re.DOTALL)
SMALLEST = 0.0001
BODY_LIMIT = 1024 * 1024


def percent(percentage: dict[str, Any] | None, path: Path, found: Findings) -> None:
    """Check a percentage: 0, or from 0.0001 to 100."""
    value = (percentage or {}).get("value", 0)
    if not 0 <= value <= 100 or 0 < value < SMALLEST:
        found.add_problem((*path, "value"), f"expected a percentage from 0 to 100, found the number {value}")


def status(value: int, path: Path, found: Findings) -> None:
    """Check the HTTP status of a response to a client."""
    if not 200 <= value <= 599:
        found.add_problem(path, f"expected a status from 200 to 599, found the number {value}")


def fault(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the fault of a route."""
    if "abort" not in settings and "delay" not in settings:
        found.add_problem(path, "the fault is empty; set `abort` or `delay`")
    abort, delay = settings.get("abort"), settings.get("delay")
    if abort is not None:
        inner = (*path, "abort")
        percent(abort.get("percentage"), (*inner, "percentage"), found)
        if "httpStatus" in abort:
            status(abort["httpStatus"], (*inner, "httpStatus"), found)
        if "grpcStatus" in abort and abort["grpcStatus"] not in GRPC:
            hint = did_you_mean(abort["grpcStatus"], GRPC)
            message = f"expected a gRPC status such as UNAVAILABLE, found `{short(abort['grpcStatus'])}`{hint}"
            found.add_problem((*inner, "grpcStatus"), message)
        if "http2Error" in abort:
            found.add_problem((*inner, "http2Error"), "Istio does not implement this field; use httpStatus")
        if not {"httpStatus", "grpcStatus", "http2Error"} & set(abort):
            found.add_warning(inner, "has no status, so it never fires; set httpStatus: 503")
        never_fires(abort, inner, found)
    if delay is not None:
        inner = (*path, "delay")
        percent(delay.get("percentage"), (*inner, "percentage"), found)
        if not 0 <= delay.get("percent", 0) <= 100:
            found.add_problem(
                (*inner, "percent"), f"expected a percentage from 0 to 100, found the number {delay['percent']}"
            )
        if "exponentialDelay" in delay:
            found.add_problem((*inner, "exponentialDelay"), "Istio does not implement this field; use fixedDelay")
        elif "fixedDelay" not in delay:
            found.add_warning(inner, "has no duration, so it never fires; set fixedDelay: 2s")
        whole_milliseconds(delay.get("fixedDelay"), (*inner, "fixedDelay"), found)
        if not delay.get("percent"):
            never_fires(delay, inner, found)


def never_fires(part: dict[str, Any], path: Path, found: Findings) -> None:
    """Record a fault without a percentage, which is valid but has no effect."""
    if "percentage" not in part or not part["percentage"]:
        found.add_warning((*path, "percentage"), "is missing, so this never fires; for every request, set {value: 100}")


def retries(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the retries of a route."""
    attempts = settings.get("attempts", 0)
    if attempts < 0:
        found.add_problem((*path, "attempts"), f"expected a number of at least 0, found {attempts}")
    others = [name for name in ("perTryTimeout", "retryOn", "retryRemoteLocalities") if settings.get(name)]
    if attempts == 0 and others:
        what = "is missing, which means 0" if "attempts" not in settings else "is 0, which means no retries"
        found.add_problem(
            (*path, "attempts"), f"{what}, but {listed(others)} can't be set without retries; set attempts: 2"
        )
    for policy in settings.get("retryOn", "").split(",") if settings.get("retryOn") else []:
        if policy not in RETRY_ON and policy not in STATUSES:
            hint = (
                " (write it without the space)"
                if policy.strip() in {*RETRY_ON, *STATUSES}
                else did_you_mean(policy, RETRY_ON)
            )
            message = f"expected a status such as 503 or one of {listed(RETRY_ON)}, found `{short(policy)}`{hint}"
            found.add_problem((*path, "retryOn"), message)
    for name in ("perTryTimeout", "backoff"):
        whole_milliseconds(settings.get(name), (*path, name), found)


def redirect(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the redirect of a route."""
    if not any(settings.get(name) for name in ("uri", "authority", "scheme", "port", "derivePort")):
        found.add_problem(path, "the redirect has no target; set uri, authority, scheme or port")
    code = settings.get("redirectCode", 0)
    if code and not 300 <= code <= 399:
        found.add_problem((*path, "redirectCode"), f"expected a status from 300 to 399, found the number {code}")
    if settings.get("scheme", "") not in {"", "http", "https"}:
        found.add_problem((*path, "scheme"), f"expected http or https, found `{short(settings['scheme'])}`")
    if settings.get("port", 0) > 65535:
        found.add_problem((*path, "port"), f"expected a port from 1 to 65535, found the number {settings['port']}")


def rewrite(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the rewrite of a route."""
    regex = settings.get("uriRegexRewrite")
    if settings.get("uri") and regex is not None:
        found.add_problem(
            (*path, "uriRegexRewrite"), "both `uri` and `uriRegexRewrite` are set; only one of them is allowed"
        )
    if not settings.get("uri") and regex is None and not settings.get("authority"):
        found.add_problem(path, "the rewrite is empty; set uri, uriRegexRewrite or authority")
    if regex is not None:
        for name in ("match", "rewrite"):
            if not regex.get(name):
                found.add_problem(
                    (*path, "uriRegexRewrite", name), "is missing; match and rewrite must be set together"
                )
        if regex.get("match") and (wrong := pattern_error(regex["match"])):
            found.add_problem((*path, "uriRegexRewrite", "match"), wrong)


def direct_response(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check a direct response of the gateway."""
    status(settings["status"], (*path, "status"), found)
    body = settings.get("body", {})
    if len(body.get("string", "").encode()) > BODY_LIMIT:
        found.add_problem((*path, "body"), f"the body has more than {BODY_LIMIT:,} bytes, which Istio rejects")


def cors(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check a CORS policy."""
    for index, origin in enumerate(settings.get("allowOrigins", [])):
        inner = (*path, "allowOrigins", index)
        if not any(origin.get(name) for name in ("exact", "prefix", "regex")):
            found.add_problem(inner, 'matches no origin; set exact: "https://shop.lab.test", prefix or regex')
        elif "regex" in origin and (wrong := pattern_error(origin["regex"])):
            found.add_problem((*inner, "regex"), wrong)
    for index, method in enumerate(settings.get("allowMethods", [])):
        if method not in METHODS:
            message = f"expected one of {listed(METHODS)}, found `{short(method)}`{did_you_mean(method, METHODS)}"
            found.add_problem((*path, "allowMethods", index), message)
    for name in ("allowHeaders", "exposeHeaders"):
        for index, header in enumerate(settings.get(name, [])):
            if header != "*" and not HEADER.fullmatch(header):
                found.add_problem(
                    (*path, name, index), f"expected a header name such as x-user, found `{short(header)}`"
                )
    age = durations.nanoseconds(settings.get("maxAge", ""))
    if age is not None and age % 10**9:
        found.add_problem(
            (*path, "maxAge"), f"expected a duration in whole seconds such as 60s, found `{settings['maxAge']}`"
        )


def headers(settings: dict[str, Any], path: Path, found: Findings) -> None:
    """Check the header operations of a route."""
    for side in ("request", "response"):
        changes = settings.get(side, {})
        for action in ("add", "set"):
            for header, value in changes.get(action, {}).items():
                inner = (*path, side, action, header)
                _header_name(header, side == "request", inner, found)
                if not HEADER_VALUE.fullmatch(value):
                    message = (
                        f"`{short(value)}`: a `%` starts an Envoy variable such as %PROTOCOL%; "
                        "for a literal `%`, write %%"
                    )
                    found.add_problem(inner, message)
        for index, header in enumerate(changes.get("remove", [])):
            _header_name(header, False, (*path, side, "remove", index), found)


def _header_name(header: str, host_too: bool, path: Path, found: Findings) -> None:
    if host_too and header.lower() in {":authority", "host"}:
        return
    if not header:
        found.add_problem(path, "expected the name of a header, found an empty string")
    elif header.startswith(":") or header.lower() == "host":
        found.add_problem(path, f"`{short(header)}` can't be changed here")
