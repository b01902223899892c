"""The rules of each kind."""

from __future__ import annotations

from labstack.istio.control_characters import control_characters
from labstack.istio.documents import Document
from labstack.istio.rules.destination_rule import destination_rule
from labstack.istio.rules.findings import Findings
from labstack.istio.rules.gateway import gateway
from labstack.istio.rules.service_entry import service_entry
from labstack.istio.rules.virtual_service import virtual_service

RULES = {
    "DestinationRule": destination_rule,
    "Gateway": gateway,
    "ServiceEntry": service_entry,
    "VirtualService": virtual_service,
}


def check_rules(document: Document) -> Findings:
    """Check a document that conforms to its schema against Istio's rules, and return the findings."""
    findings = Findings(document)
    for problem in control_characters(document):
        findings.problems.append(problem)
    RULES[document.kind](document.spec, findings)
    return findings
