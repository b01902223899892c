"""Envoy's API comes from the project's own descriptors, which are complete and match the pinned wheel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labstack.istio import envoy_api
from labstack.istio.envoy_api import cluster_v3, core_v3, listener_v3, protobuf, router_v3
from tools.make_envoy_api import OUTPUT

ROOT = Path(__file__).resolve().parents[2]


def test_message_survives_a_json_round_trip() -> None:
    """A message with a duration, an enumeration and a packed message survives a round trip through JSON."""
    listener = listener_v3.Listener(name="http", traffic_direction=core_v3.TrafficDirection.OUTBOUND)
    listener.transparent.value = True
    entry = listener.filter_chains.add().filters.add(name="router")
    entry.typed_config.Pack(router_v3.Router(suppress_envoy_headers=True))
    listener.listener_filters_timeout.CopyFrom(protobuf.Duration(seconds=1, nanos=500_000_000))
    text = envoy_api.to_json(listener)
    assert '"suppress_envoy_headers": true' in text
    assert '"1.500s"' in text
    assert envoy_api.parse(text, listener_v3.Listener()) == listener


def test_invalid_message_is_rejected_with_the_reason() -> None:
    """Parsing an unknown field or malformed JSON raises Invalid with the reason."""
    with pytest.raises(envoy_api.Invalid, match="no_such_field"):
        envoy_api.parse('{"no_such_field": 1}', cluster_v3.Cluster())
    with pytest.raises(envoy_api.Invalid):
        envoy_api.parse("{", cluster_v3.Cluster())


def test_unknown_message_raises_an_attribute_error() -> None:
    """A name that is missing from the descriptors raises an AttributeError with the full name."""
    with pytest.raises(AttributeError, match=r"envoy\.config\.cluster\.v3\.Clutser"):
        _ = cluster_v3.Clutser


def test_translator_imports_no_other_proto_package() -> None:
    """The translator imports neither grpc nor a package of Envoy's protos."""
    code = (
        "import sys, labstack.gateway.envoy_files, labstack.istio.translate\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'envoy', 'grpc', 'udpa', 'validate', 'xds'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.long
def test_descriptors_match_the_pinned_wheel() -> None:
    """`tools/make_envoy_api.py` reproduces the committed file."""
    assert OUTPUT.exists()
    subprocess.run([sys.executable, "tools/make_envoy_api.py", "--check"], cwd=ROOT, check=True)
