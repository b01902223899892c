"""Write the schemas of Istio's YAML to `lab-stack/labstack/istio/schema/`: python tools/make_istio_schemas.py [FOLDER]

The schemas come from the custom resource definitions in the Go module istio.io/api, in the version that the lab's Istio
was built with. Go downloads both modules and verifies their checksums. Descriptions are left out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ISTIO = "istio.io/istio@v0.0.0-20260306174214-6991a379e1fc"  # the commit of release 1.29.1
RELEASE = "1.29.1"
SCRIPT = "tools/make_istio_schemas.py"
LICENCE = "Apache-2.0"
DEFINITIONS = "kubernetes/customresourcedefinitions.gen.yaml"
GROUP = "networking.istio.io"
KINDS = ("DestinationRule", "Gateway", "ServiceEntry", "VirtualService")
NO_SCHEMA = {"description", "example", "externalDocs", "title"}
FOLDER = Path(__file__).resolve().parent.parent / "lab-stack" / "labstack" / "istio" / "schema"


def run_go(*arguments: str) -> dict[str, Any]:
    """Run a Go command outside any module, and return the JSON object that it prints."""
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            ["go", *arguments],
            cwd=nowhere,
            capture_output=True,
            text=True,
            # The checksum database has no entry for this version of Istio's own module.
            env={**os.environ, "GOFLAGS": "-modcacherw", "GONOSUMDB": "istio.io/istio"},
        )
    if done.returncode:
        raise SystemExit(f"go {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def api_module() -> dict[str, Any]:
    """Download the istio.io/api version that Istio's go.mod requires, and return Go's report on it."""
    required = Path(run_go("list", "-m", "-json", ISTIO)["GoMod"]).read_text(encoding="utf-8")
    found = re.search(r"^\s*istio\.io/api (v\S+)", required, re.MULTILINE)
    if not found:
        raise SystemExit(f"{ISTIO} requires no istio.io/api")
    return run_go("mod", "download", "-json", f"istio.io/api@{found.group(1)}")


def bare(schema: Any) -> Any:
    """Return a schema without its descriptions. Properties with the name of such a keyword stay."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: bare(inner) for name, inner in value.items()} if key == "properties" else bare(value)
        for key, value in schema.items()
        if key not in NO_SCHEMA
    }


def schemas(definitions: str) -> dict[str, Any]:
    """Return the served versions and the schema of each kind. All versions must have the same schema."""
    kinds = {}
    for definition in yaml.safe_load_all(definitions):
        spec = definition["spec"]
        if spec["group"] != GROUP or spec["names"]["kind"] not in KINDS:
            continue
        served = [version for version in spec["versions"] if version["served"]]
        of_version = [bare(version["schema"]["openAPIV3Schema"]) for version in served]
        if any(schema != of_version[0] for schema in of_version):
            raise SystemExit(f"{spec['names']['kind']}: its versions differ; teach {SCRIPT} and the checker about that")
        of_version[0]["properties"].pop("status", None)
        kinds[spec["names"]["kind"]] = {"versions": [version["name"] for version in served], "schema": of_version[0]}
    if set(kinds) != set(KINDS):
        raise SystemExit(f"{DEFINITIONS} lacks {sorted(set(KINDS) - set(kinds))}")
    return dict(sorted(kinds.items()))


def main(folder: Path = FOLDER) -> None:
    """Write the schemas and their provenance into `folder`."""
    if shutil.which("go") is None:
        raise SystemExit("Go is not on PATH: install it, then run this again")
    module = api_module()
    text = (Path(module["Dir"]) / DEFINITIONS).read_text(encoding="utf-8")
    data = {
        "about": {
            "what": "OpenAPI schemas of Istio's custom resources, without their descriptions",
            "istio": RELEASE,
            "module": module["Path"],
            "version": module["Version"],
            "sum": module["Sum"],
            "file": DEFINITIONS,
            "licence": LICENCE,
            "script": SCRIPT,
        },
        "group": GROUP,
        "kinds": schemas(text),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    (folder / "networking.json").write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
