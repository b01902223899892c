"""What Istio asks of one document beyond its schema, and what it takes without saying that it won't work."""

from labstack.mesh.rules.document import check_rules
from labstack.mesh.rules.findings import Findings

__all__ = ["Findings", "check_rules"]
