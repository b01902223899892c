"""Envoy's bootstrap configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labstack.gateway.bootstrap import Administration, by_files, by_istiod
from labstack.gateway.xds_folder import XdsFolder

ADMIN = Administration("envoy-admin.sock", "127.0.0.1", 9901)
ISTIOD, COLLECTOR = ("172.18.0.21", 15010), ("172.18.0.24", 4318)


@pytest.mark.parametrize(
    "text",
    [by_istiod(ADMIN, ISTIOD, COLLECTOR), by_files(ADMIN, XdsFolder(Path("xds")), COLLECTOR)],
    ids=["istiod", "files"],
)
def test_bootstrap_clusters_have_static_addresses(text: str) -> None:
    """Every cluster has a static address, since Jaeger starts last and its name may not resolve until then."""
    clusters = yaml.safe_load(text)["static_resources"]["clusters"]
    assert clusters
    assert {cluster["type"] for cluster in clusters} == {"STATIC"}
