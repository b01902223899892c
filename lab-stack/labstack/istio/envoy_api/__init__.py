"""Envoy's configuration API (v3) as protobuf messages, such as ``cluster_v3.Cluster``.

The packages have the names that control planes in Go use. Their descriptors are in ``descriptors.binpb``, which
`tools/make_envoy_api.py` generates. They use a separate descriptor pool, so that they do not conflict with the messages
of other packages. Messages of ``protobuf`` (durations, structs) must also come from here, to be compatible with the
others.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/api
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

__all__ = ["Invalid", "parse", "to_dict", "to_json"]

Invalid = json_format.ParseError
"""Raised for text that is not JSON or does not contain the expected message."""

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(Path(__file__).with_name("descriptors.binpb").read_bytes()).file:
    _pool.Add(_file)


class _Package:
    """The messages and enumerations of one package, each created on first access."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        full_name = f"{self._name}.{name}"
        try:
            found: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName(full_name))
        except KeyError:
            try:
                found = EnumTypeWrapper(_pool.FindEnumTypeByName(full_name))
            except KeyError:
                raise AttributeError(f"descriptors.binpb has no {full_name}") from None
        setattr(self, name, found)
        return found


# `Any`, so that mypy accepts their attributes as types.
accesslog_v3: Any = _Package("envoy.config.accesslog.v3")
bootstrap_v3: Any = _Package("envoy.config.bootstrap.v3")
buffer_v3: Any = _Package("envoy.extensions.filters.http.buffer.v3")
cares_v3: Any = _Package("envoy.extensions.network.dns_resolver.cares.v3")
cluster_v3: Any = _Package("envoy.config.cluster.v3")
core_v3: Any = _Package("envoy.config.core.v3")
cors_v3: Any = _Package("envoy.extensions.filters.http.cors.v3")
discovery_v3: Any = _Package("envoy.service.discovery.v3")
endpoint_v3: Any = _Package("envoy.config.endpoint.v3")
fault_v3: Any = _Package("envoy.extensions.filters.http.fault.v3")
file_v3: Any = _Package("envoy.extensions.access_loggers.file.v3")
grpc_stats_v3: Any = _Package("envoy.extensions.filters.http.grpc_stats.v3")
grpc_web_v3: Any = _Package("envoy.extensions.filters.http.grpc_web.v3")
hcm_v3: Any = _Package("envoy.extensions.filters.network.http_connection_manager.v3")
http_v3: Any = _Package("envoy.extensions.upstreams.http.v3")
listener_v3: Any = _Package("envoy.config.listener.v3")
matcher_v3: Any = _Package("envoy.type.matcher.v3")
previous_hosts_v3: Any = _Package("envoy.extensions.retry.host.previous_hosts.v3")
previous_priorities_v3: Any = _Package("envoy.extensions.retry.priority.previous_priorities.v3")
protobuf: Any = _Package("google.protobuf")
route_v3: Any = _Package("envoy.config.route.v3")
router_v3: Any = _Package("envoy.extensions.filters.http.router.v3")
type_v3: Any = _Package("envoy.type.v3")
uuid_v3: Any = _Package("envoy.extensions.request_id.uuid.v3")


def to_dict(message: Message) -> dict[str, Any]:
    """Return a message in protobuf's JSON, with the field names of the proto files."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=_pool)


def to_json(message: Message) -> str:
    """Return a message in protobuf's JSON, on one line, with the field names of the proto files."""
    return json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None, descriptor_pool=_pool)


def parse(text: str, message: Message) -> Message:
    """Parse protobuf's JSON into `message`, and return it.

    Raises
    ------
    Invalid
        The text is not JSON or does not contain that message.
    """
    return json_format.Parse(text, message, descriptor_pool=_pool)
