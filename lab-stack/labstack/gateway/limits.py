"""The limits of clients' requests: `lab-stack/envoy/limits.yaml`, an EnvoyFilter, for either control plane."""

from __future__ import annotations

import json

from google.protobuf.message import Message

from labstack.config.paths import CONFIG
from labstack.istio import envoy_api
from labstack.istio.documents import Document, read
from labstack.istio.envoy_api import hcm_v3

FILE = CONFIG / "envoy" / "limits.yaml"
ROUTER = "envoy.filters.http.router"


def envoy_filter() -> Document:
    """Return the EnvoyFilter, for istiod."""
    (document,) = read(FILE, f"lab-stack/envoy/{FILE.name}")
    return document


def add_limits(manager: hcm_v3.HttpConnectionManager) -> None:
    """Apply the EnvoyFilter to a connection manager, as istiod does: merge its settings, and insert its filter."""
    settings, buffer = (patch["patch"]["value"] for patch in envoy_filter().spec["configPatches"])
    typed = {name: value for name, value in settings["typed_config"].items() if name != "@type"}
    manager.MergeFrom(_parsed(typed, hcm_v3.HttpConnectionManager()))
    position = [one.name for one in manager.http_filters].index(ROUTER)
    manager.http_filters.insert(position, _parsed(buffer, hcm_v3.HttpFilter()))


def _parsed(value: object, message: Message) -> Message:
    return envoy_api.parse(json.dumps(value), message)
