"""Write the software bill of materials of a release, in CycloneDX's JSON (https://cyclonedx.org/specification/overview/).

    python tools/make_sbom.py build/dist/saga-lab.cdx.json

It lists the locked Python packages, the jars, the images of container mode and the programs, each with the digests that
the lab verifies.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parent.parent
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-build.lock")
VERSIONS = ROOT / "lab-stack" / "versions.toml"


def main(target: Path) -> None:
    """Write the bill of materials to a file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = components(tomllib.loads(VERSIONS.read_text(encoding="utf-8")))
    lab = Component(
        type=ComponentType.APPLICATION, name=project["name"], version=project["version"], bom_ref=project["name"]
    )
    bom = Bom(components=found)
    bom.metadata.component = lab
    bom.register_dependency(lab, found)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", encoding="utf-8")


def components(versions: dict[str, Any]) -> list[Component]:
    """Return everything that the lab downloads."""
    found = {str(component.purl): component for component in (*_packages(), *_jars(versions), *_images(versions))}
    return [*found.values(), *_programs(versions)]


def _packages() -> Iterator[Component]:
    for lock in LOCKS:
        for block in re.split(r"\n(?=[a-z0-9])", lock.read_text(encoding="utf-8"))[1:]:
            name, version = block.split()[0].split("==")
            digests = re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
            yield _component(PackageURL("pypi", name=name, version=version), *digests)


def _jars(versions: dict[str, Any]) -> Iterator[Component]:
    for coordinate, digest in versions["maven"]["jars"].items():
        group, artifact, version = coordinate.split(":")
        yield _component(PackageURL("maven", group, artifact, version), digest)


def _images(versions: dict[str, Any]) -> Iterator[Component]:
    for entry in versions["images"].values():
        repository, _, tag = entry["image"].rpartition(":")
        group, _, name = repository.rpartition("/")
        digest = entry.get("digest", "").removeprefix("sha256:")
        purl = PackageURL("docker", group or None, name, tag)
        yield _component(purl, *filter(None, [digest]), kind=ComponentType.CONTAINER)


def _programs(versions: dict[str, Any]) -> Iterator[Component]:
    for name, entry in versions["programs"].items():
        yield Component(type=ComponentType.APPLICATION, name=name, version=entry["version"], bom_ref=f"program/{name}")


def _component(purl: PackageURL, *digests: str, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    return Component(
        type=kind,
        group=purl.namespace,
        name=purl.name,
        version=purl.version,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in digests],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
