"""A client of the aggregated discovery service (ADS), through which a control plane configures Envoy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import Message

from labstack.istio.envoy_api import cluster_v3, discovery_v3, endpoint_v3, hcm_v3, listener_v3, route_v3

KINDS: dict[str, type[Message]] = {
    "clusters": cluster_v3.Cluster,
    "endpoints": endpoint_v3.ClusterLoadAssignment,
    "listeners": listener_v3.Listener,
    "routes": route_v3.RouteConfiguration,
}
URL = {kind: f"type.googleapis.com/{message.DESCRIPTOR.full_name}" for kind, message in KINDS.items()}
KIND = {url: kind for kind, url in URL.items()}


class Gateway:
    """One connection of a gateway to istiod. It requests all four kinds of resources, as Envoy does."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[discovery_v3.DiscoveryRequest | None] = queue.SimpleQueue()
        self._nonces: dict[str, str] = {}
        self._names: dict[str, list[str]] = {}
        self.seen: dict[str, dict[str, Message]] = {}
        self._responses: queue.SimpleQueue[discovery_v3.DiscoveryResponse | grpc.RpcError] = queue.SimpleQueue()
        stream = channel.stream_stream(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            request_serializer=discovery_v3.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DiscoveryResponse.FromString,
        )
        self._call = stream(iter(self._requests.get, None))
        first = self._request("clusters")
        first.node.id = "router~10.0.0.1~ingress.default~default.svc.cluster.local"
        first.node.metadata.update({"INSTANCE_IPS": "10.0.0.1", "LABELS": {"istio": "ingressgateway"}})
        self._requests.put(first)
        self._requests.put(self._request("listeners"))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for response in self._call:
                self._responses.put(response)
        except grpc.RpcError as error:
            self._responses.put(error)

    def _request(self, kind: str, version: str = "") -> discovery_v3.DiscoveryRequest:
        return discovery_v3.DiscoveryRequest(
            type_url=URL[kind],
            resource_names=self._names.get(kind, []),
            response_nonce=self._nonces.get(kind, ""),
            version_info=version,
        )

    def _subscribe(self, kind: str, names: Iterable[str]) -> None:
        wanted = sorted(names)
        if self._names.get(kind) == wanted:
            return
        self._names[kind] = wanted
        self.seen[kind] = {name: message for name, message in self.seen.get(kind, {}).items() if name in wanted}
        if wanted:
            self._requests.put(self._request(kind))

    def receive(self, timeout: float) -> bool:
        """Receive one response and acknowledge it; return False if none arrives within `timeout` seconds."""
        try:
            response = self._responses.get(timeout=timeout)
        except queue.Empty:
            return False
        if isinstance(response, grpc.RpcError):
            raise response
        kind = KIND[response.type_url]
        new = {}
        for packed in response.resources:
            message = KINDS[kind]()
            packed.Unpack(message)
            new[_name(message)] = message
        whole = kind in ("clusters", "listeners")
        self.seen[kind] = new if whole else {**self.seen.get(kind, {}), **new}
        self._nonces[kind] = response.nonce
        self._requests.put(self._request(kind, response.version_info))
        if kind == "clusters":
            self._subscribe("endpoints", (n for n, c in new.items() if c.type == cluster_v3.Cluster.EDS))
        if kind == "listeners":
            self._subscribe("routes", _route_names(new.values()))
        return True

    def complete(self) -> bool:
        """Report whether every requested resource has arrived."""
        return {"clusters", "listeners"} <= self.seen.keys() and all(
            set(self._names.get(kind, [])) <= self.seen.get(kind, {}).keys() for kind in ("endpoints", "routes")
        )

    def close(self) -> None:
        """Close the connection."""
        self._requests.put(None)
        self._call.cancel()


def _name(message: Message) -> str:
    return str(getattr(message, "name", "") or getattr(message, "cluster_name", ""))


def _route_names(listeners: Iterable[Message]) -> set[str]:
    names = set()
    for listener in listeners:
        for chain in listener.filter_chains:
            for each in chain.filters:
                manager = hcm_v3.HttpConnectionManager()
                if each.typed_config.Unpack(manager):
                    names.add(manager.rds.route_config_name)
    return names
