"""The identity of the lab's gateway as a proxy of the mesh, as it reports it to a control plane."""

from __future__ import annotations

NAMESPACE = "default"
ADDRESS = "10.0.0.1"
LABELS = {"istio": "ingressgateway"}
CLUSTER_ID = "lab"

ROOT_NAMESPACE = "istio-system"
"""The namespace of mesh-wide configuration, which every proxy reads after its own and the service's."""
