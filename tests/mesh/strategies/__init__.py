"""Hypothesis strategies for configurations that istiod takes: broad in what they say, narrow in their names."""

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


@st.composite
def configurations(draw: st.DrawFn) -> str:
    """Return a whole configuration as YAML, its documents in any order."""
    entries = draw(service_entries())
    world = World.of(entries)
    documents: list[dict[str, Any]] = [
        *entries,
        *draw(gateways()),
        *draw(destination_rules(world)),
        *draw(virtual_services(world)),
    ]
    return yaml.safe_dump_all(draw(st.permutations(documents)), sort_keys=False)
