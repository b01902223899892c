"""Headers that a route sets, adds and removes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from labstack.istio.envoy_api import core_v3

Option = core_v3.HeaderValueOption


class HasHeaders(Protocol):
    """A route or a weighted cluster."""

    request_headers_to_add: Any
    request_headers_to_remove: Any
    response_headers_to_add: Any
    response_headers_to_remove: Any


@dataclass
class Operations:
    """Changes to the headers of requests and responses, and the host to set in requests."""

    request_add: list[core_v3.HeaderValueOption] = field(default_factory=list)
    request_remove: list[str] = field(default_factory=list)
    response_add: list[core_v3.HeaderValueOption] = field(default_factory=list)
    response_remove: list[str] = field(default_factory=list)
    authority: str = ""

    def apply(self, target: HasHeaders) -> None:
        """Append the operations to those of a route or a weighted cluster."""
        target.request_headers_to_add.extend(self.request_add)
        target.request_headers_to_remove.extend(self.request_remove)
        target.response_headers_to_add.extend(self.response_add)
        target.response_headers_to_remove.extend(self.response_remove)


def operations(headers: Mapping[str, Any]) -> Operations:
    """Return the operations in Istio's ``headers``. For the host, ``set`` takes precedence over ``add``."""
    request, response = headers.get("request", {}), headers.get("response", {})
    return Operations(
        _options(request),
        _modifiable(request.get("remove", [])),
        _options(response),
        _modifiable(response.get("remove", [])),
        _authority(request.get("set", {})) or _authority(request.get("add", {})),
    )


def _options(spec: Mapping[str, Any]) -> list[core_v3.HeaderValueOption]:
    written = (("set", Option.OVERWRITE_IF_EXISTS_OR_ADD), ("add", Option.APPEND_IF_EXISTS_OR_ADD))
    return [
        Option(header={"key": key, "value": spec[verb][key]}, append_action=action)
        for verb, action in written
        for key in _modifiable(sorted(spec.get(verb, {})))
    ]


def _authority(headers: Mapping[str, str]) -> str:
    found = [value for key, value in headers.items() if key.lower() in (":authority", "host")]
    return found[-1] if found else ""


def _modifiable(keys: list[str]) -> list[str]:
    """Return the headers that Envoy lets routes modify. The host is rewritten separately."""
    return [key for key in keys if not key.startswith(":") and key.lower() != "host"]
