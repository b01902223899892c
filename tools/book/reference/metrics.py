"""The page of metrics: all metrics in alphabetical order, with the recording and alerting rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tools.book.reference.markdown import anchor, join, table, without_formulas

DOCS = "docs/metrics.md"
RULES = "lab-stack/prometheus"
ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<kind>counter|gauge|histogram) \| ?(?P<labels>[\w, ]*?) ?\| (?P<what>.*) \|$", re.M
)
SECTION = re.compile(r"^## [^\n]*job `(?P<job>\w+)`\n(?P<text>.*?)(?=^## |\Z)", re.M | re.S)

OPENING = """
# Metrics, rules and alerts

Every metric of the lab in one alphabet. [Metrics](../docs/metrics.md) says where each comes from; tests hold its tables
against what is really shown.
"""
RECORDED = """
## Recording rules

Queries that Prometheus evaluates once a second. Use the name in any PromQL expression.
"""
ALERTS = """
## Alerts

`look.metrics.alerts()` shows the alerts that are pending or firing.
"""


def page(root: Path) -> str:
    """Return the page."""
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label.strip()}`" for label in labels.split(",") if label.strip()), job, what)
        for name, kind, labels, job, what in sorted(documented(root))
    ]
    recorded = [(f"`{rule['record']}`", f"`{one_line(rule['expr'])}`") for rule in rules(root, "recording")]
    parts = [part for rule in rules(root, "alerting") for part in alert(rule)]
    return join(
        OPENING,
        table(["name", "type", "labels", "job", "what"], rows),
        RECORDED,
        table(["name", "PromQL"], recorded),
        ALERTS,
        *parts,
    )


def documented(root: Path) -> list[tuple[str, str, str, str, str]]:
    """Return the name, type, labels, job and meaning of every documented metric."""
    text = (root / DOCS).read_text(encoding="utf-8")
    return [
        (row["name"], row["kind"], row["labels"], section["job"], row["what"])
        for section in SECTION.finditer(text)
        for row in ROW.finditer(section["text"])
    ]


def rules(root: Path, kind: str) -> list[dict[str, Any]]:
    """Return the recording or the alerting rules."""
    document = yaml.safe_load((root / RULES / f"{kind}.rules.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def alert(rule: dict[str, Any]) -> list[str]:
    """Return the section of an alert."""
    notes = rule.get("annotations", {})
    lasting = f" For {rule['for']} before it fires." if "for" in rule else ""
    words = " ".join(filter(None, (notes.get("summary", ""), notes.get("description", ""))))
    return [
        anchor(f"alert-{rule['alert'].lower()}"),
        f"### {rule['alert']}",
        f"```text\n{rule['expr'].strip()}\n```",
        lasting.strip(),
        f"It says: {without_formulas(words)}" if words else "",
    ]


def one_line(expression: str) -> str:
    """Return an expression on one line."""
    return " ".join(expression.split())
