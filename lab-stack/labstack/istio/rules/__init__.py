"""Istio's rules for one document beyond its schema, and warnings about values that Istio accepts but won't work."""

from labstack.istio.rules.document import check_rules
from labstack.istio.rules.findings import Findings

__all__ = ["Findings", "check_rules"]
