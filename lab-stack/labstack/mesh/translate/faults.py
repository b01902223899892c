"""Faults that a route injects, and percentages, which several features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envoy.extensions.filters.http.fault.v3 import fault_pb2
from envoy.type.v3 import percent_pb2

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


def exact_percent(value: float) -> percent_pb2.FractionalPercent:
    """Return a percentage with four digits behind the point; what is finer is cut off."""
    return percent_pb2.FractionalPercent(
        numerator=int(value * 10_000) % 2**32, denominator=percent_pb2.FractionalPercent.MILLION
    )


def whole_percent(value: int) -> percent_pb2.FractionalPercent:
    """Return a percentage without a fraction."""
    return percent_pb2.FractionalPercent(numerator=value % 2**32, denominator=percent_pb2.FractionalPercent.HUNDRED)


def http_fault(fault: Mapping[str, Any]) -> fault_pb2.HTTPFault:
    """Return Envoy's fault; without a percentage neither a delay nor an abort ever happens."""
    result = fault_pb2.HTTPFault()
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
