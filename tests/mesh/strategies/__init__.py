"""Hypothesis strategies for configurations that istiod accepts: many features, few names."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import strategies as st

from tests.mesh.strategies.entries import service_entries
from tests.mesh.strategies.gateways import gateways
from tests.mesh.strategies.rules import destination_rules
from tests.mesh.strategies.virtual_services import virtual_services
from tests.mesh.strategies.words import World

__all__ = ["configurations"]


MOMENTS = ("2025-12-31T23:59:59Z", "2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00")
# On a conflict the older object wins; other metadata has no effect.
METADATA = st.one_of(
    *[st.just({})] * 3,
    st.fixed_dictionaries(
        {},
        optional={
            "creationTimestamp": st.sampled_from(MOMENTS),
            "labels": st.sampled_from(({"app": "order"}, {"istio.io/rev": "canary"})),
            "annotations": st.just({"note": "seen"}),
        },
    ),
)


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Return a whole configuration as YAML, with its documents in random order."""
    entries = draw(service_entries())
    world = World.of(entries)
    documents: list[dict[str, Any]] = [
        *entries,
        *draw(gateways()),
        *draw(destination_rules(world)),
        *draw(virtual_services(world)),
    ]
    for document in documents:
        document["metadata"] |= draw(METADATA)
    documents += draw(_twins(documents))
    return yaml.safe_dump_all(draw(st.permutations(documents)), sort_keys=False)


@st.composite
def _twins(draw: st.DrawFn, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Occasionally return a document with the name of another document but different content."""
    if draw(st.integers(0, 9)):
        return []
    first, second = draw(st.sampled_from(documents)), draw(st.sampled_from(documents))
    if first["kind"] != second["kind"] or first["kind"] == "ServiceEntry":
        return []
    names = {key: first["metadata"][key] for key in ("name", "namespace")}
    return [{**second, "metadata": {**second["metadata"], **names}}]
