"""The bill of materials of a release."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from labstack.install import names
from tools import make_sbom


def test_the_bill_of_materials_lists_every_download_with_its_digest(tmp_path: Path) -> None:
    """Each locked package and each jar is listed once with its SHA-256; images and programs with their versions."""
    make_sbom.main(tmp_path / "bom" / "saga-lab.cdx.json")
    bom = json.loads((tmp_path / "bom" / "saga-lab.cdx.json").read_text(encoding="utf-8"))
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    listed = {part["purl"]: part for part in bom["components"] if "purl" in part}
    packages = {
        f"{n}@{v}" for lock in make_sbom.LOCKS for n, v in re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.M)
    }
    jars = tomllib.loads(make_sbom.VERSIONS.read_text(encoding="utf-8"))["maven"]["jars"]
    assert {purl.removeprefix("pkg:pypi/") for purl in listed if purl.startswith("pkg:pypi/")} == packages
    assert sum(purl.startswith("pkg:maven/") for purl in listed) == len(jars)
    verified = [part for purl, part in listed.items() if not purl.startswith("pkg:docker/")]
    assert all(re.fullmatch("[0-9a-f]{64}", part["hashes"][0]["content"]) for part in verified)
    assert set(names()) <= {part["name"] for part in bom["components"]}
