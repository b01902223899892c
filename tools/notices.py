"""List the content of an instructor's bundle with its licences, as stated in the wheels and jars."""

from __future__ import annotations

import re
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from labstack.config.versions import VERSIONS

SILENT = {
    "debezium-": "Apache-2.0",
    "hash4j-": "Apache-2.0",
    "metrics-core-": "Apache-2.0",
    "pcollections-": "MIT",
    "re2j-": "BSD-3-Clause (Go's licence)",
    "sketches-java-": "Apache-2.0",
}
"""Licences of jars that do not state theirs, by the prefix of the file name. Source: the projects."""

PROGRAMS = {name: one["licence"] for name, one in VERSIONS["programs"].items() if one["licence"] != "AGPL-3.0"}
"""Licences of the programs that a bundle may hold. Grafana (AGPL-3.0) is left out."""

IN_THE_FILE = "see the licence text in the file"
MANIFEST = "META-INF/MANIFEST.MF"
LICENCE_FILE = re.compile(r"(?i)(^|/)(licen[sc]e|copying)[^/]*$")

INTRODUCTION = """\
What this bundle holds, and under which licence
===============================================

Each file is the one that its project publishes, unchanged, with the licence texts and notices that it brings. The lab
itself is Apache-2.0 (saga-lab/LICENSE), its data are CC0 (saga-lab/datasets/LICENSE).

Grafana is left out: its licence, AGPL-3.0, obliges anyone who distributes it to offer its source. A lab with a
network fetches it from its project.
"""


def notices(offline: Path) -> str:
    """Return the text of NOTICES.txt.

    Parameters
    ----------
    offline : Path
        The bundle's folder with ``wheels`` and ``programs``.
    """
    parts = [INTRODUCTION]
    wheels = sorted((offline / "wheels").glob("*.whl"))
    jars = sorted((offline / "programs" / "jars").rglob("*.jar"))
    installed = [name for name in PROGRAMS if (offline / "programs" / "programs" / name).is_dir()]
    for title, lines in (
        ("Python packages", [f"{wheel.name}: {licence_of_wheel(wheel)}" for wheel in wheels]),
        ("Java archives", [f"{jar.name}: {licence_of_jar(jar)}" for jar in jars]),
        ("Programs", [f"{name}: {PROGRAMS[name]}" for name in installed]),
    ):
        if lines:
            parts.append("\n".join([title, "-" * len(title), *lines]) + "\n")
    return "\n".join(parts)


def licence_of_wheel(wheel: Path) -> str:
    """Return the licence that a wheel's metadata states."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return licence_of(Parser().parsestr(archive.read(name).decode()))


def licence_of(metadata: Any) -> str:
    """Return the licence that a package's metadata states (PyPA's core metadata specification)."""
    if stated := metadata.get("License-Expression"):
        return str(stated)
    classifiers = [str(one) for one in metadata.get_all("Classifier", []) if str(one).startswith("License ::")]
    if classifiers:
        return ", ".join(one.rpartition(" :: ")[2] for one in classifiers)
    lines = str(metadata.get("License") or "").strip().splitlines()
    return lines[0][:100] if lines else IN_THE_FILE


def licence_of_jar(jar: Path) -> str:
    """Return the licence that a jar states in its manifest or its POM."""
    with zipfile.ZipFile(jar) as archive:
        names = archive.namelist()
        manifest = archive.read(MANIFEST).decode(errors="replace") if MANIFEST in names else ""
        if found := re.search(r"^Bundle-License: (.*)$", re.sub(r"\r?\n ", "", manifest), re.M):
            return found[1].strip()
        for name in (one for one in names if one.endswith("pom.xml")):
            description = archive.read(name).decode(errors="replace")
            if stated := re.search(r"<licenses>.*?<name>\s*(.*?)\s*</name>", description, re.S):
                return stated[1]
        if any(LICENCE_FILE.search(name) for name in names):
            return IN_THE_FILE
    return next((licence for begin, licence in SILENT.items() if jar.name.startswith(begin)), "not stated")
