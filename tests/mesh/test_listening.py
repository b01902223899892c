"""The addresses on which the gateway listens."""

from __future__ import annotations

import pytest

from labstack.gateway.listening import require_loopback
from labstack.istio.documents import load
from labstack.istio.errors import InvalidMesh

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: lab-gateway}
spec:
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"], bind: "BIND"}
"""


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.7"])
def test_a_gateway_for_other_machines_is_rejected(bind: str) -> None:
    """A Gateway that other machines could reach is rejected with its line, unless it listens in a container."""
    documents = load(GATEWAY.replace("BIND", bind))
    with pytest.raises(InvalidMesh, match=r"<text>:7: spec.servers\[0\].bind: .* opens the lab to other machines"):
        require_loopback(documents, bound_here=True)
    require_loopback(documents, bound_here=False)


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", ""])
def test_a_gateway_on_a_loopback_address_is_accepted(bind: str) -> None:
    """A Gateway on a loopback address, or without an address, is accepted."""
    require_loopback(load(GATEWAY.replace("BIND", bind)), bound_here=True)
