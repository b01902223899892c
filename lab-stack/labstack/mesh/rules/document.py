"""The rules of each kind."""

from __future__ import annotations

from labstack.mesh.documents import Document
from labstack.mesh.rules.destination_rule import destination_rule
from labstack.mesh.rules.findings import Findings
from labstack.mesh.rules.gateway import gateway
from labstack.mesh.rules.service_entry import service_entry
from labstack.mesh.rules.virtual_service import virtual_service

RULES = {
    "DestinationRule": destination_rule,
    "Gateway": gateway,
    "ServiceEntry": service_entry,
    "VirtualService": virtual_service,
}


def check_rules(document: Document) -> Findings:
    """Check a document that conforms to its schema against Istio's rules, and return the findings."""
    findings = Findings(document)
    RULES[document.kind](document.spec, findings)
    return findings
