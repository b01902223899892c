"""Faults that a route injects, and percentages, which several features use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labstack.istio.envoy_api import fault_v3, type_v3

GRPC_STATUS = {
    name: code
    for code, name in enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
            *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
            *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
        )
    )
}


def exact_percent(value: float) -> type_v3.FractionalPercent:
    """Return a percentage with four decimal places; further digits are truncated."""
    return type_v3.FractionalPercent(
        numerator=int(value * 10_000) % 2**32, denominator=type_v3.FractionalPercent.MILLION
    )


def whole_percent(value: int) -> type_v3.FractionalPercent:
    """Return a percentage without decimal places."""
    return type_v3.FractionalPercent(numerator=value % 2**32, denominator=type_v3.FractionalPercent.HUNDRED)


def http_fault(fault: Mapping[str, Any]) -> fault_v3.HTTPFault:
    """Return Envoy's fault. Without a percentage, a delay or abort never happens."""
    result = fault_v3.HTTPFault()
    delay, abort = fault.get("delay"), fault.get("abort")
    if delay is not None and "fixedDelay" in delay:
        result.delay.fixed_delay.CopyFrom(delay["fixedDelay"])
        if "percentage" in delay:
            result.delay.percentage.CopyFrom(exact_percent(delay["percentage"].get("value", 0)))
        else:
            result.delay.percentage.CopyFrom(whole_percent(delay.get("percent", 0)))
    if abort is not None and ("httpStatus" in abort or "grpcStatus" in abort):
        if "percentage" in abort:
            result.abort.percentage.CopyFrom(exact_percent(abort["percentage"].get("value", 0)))
        if "httpStatus" in abort:
            result.abort.http_status = abort["httpStatus"] % 2**32
        else:
            result.abort.grpc_status = GRPC_STATUS.get(abort["grpcStatus"], 0)
    return result
