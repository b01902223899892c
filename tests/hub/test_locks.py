"""The packages of the learner's image and of the tests' hub are pinned with hashes, in the project's versions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.hub.learner_image import pins_for

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("deploy/hub/requirements.lock", "tests/hub/requirements.lock")
DEBIAN, NEWER = "3.11.2", "3.14.0"


def versions(lock: str, python: str) -> dict[str, str]:
    """Return the locked versions for a version of Python, by package."""
    lines = pins_for((ROOT / lock).read_text(encoding="utf-8"), python).splitlines()
    pins = [Requirement(line.split(" ")[0]) for line in lines]
    return {pin.name: str(pin.specifier) for pin in pins}


@pytest.mark.parametrize("python", [DEBIAN, NEWER])
@pytest.mark.parametrize("lock", LOCKS)
def test_a_package_has_the_version_of_the_project(lock: str, python: str) -> None:
    """If the project uses a package, too, the lock has the same version, so that both can be in one environment."""
    project, hub = versions("requirements-dev.lock", python), versions(lock, python)
    shared = project.keys() & hub.keys()
    assert len(shared) > 20
    assert {name: hub[name] for name in shared} == {name: project[name] for name in shared}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_locked_with_hashes(lock: str) -> None:
    """The lock has each direct requirement in its version, hashes for each package, and no address."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    source = (ROOT / lock).with_suffix(".in").read_text(encoding="utf-8")
    wanted = [line for line in source.splitlines() if line[:1].isalnum()]
    assert wanted
    assert [line for line in wanted if not re.search(rf"^{re.escape(line)}\b", text, re.M)] == []


def test_the_learners_server_and_the_hub_have_the_same_version() -> None:
    """The image's JupyterHub is that of the tests' hub."""
    learner, hub = (versions(lock, DEBIAN)["jupyterhub"] for lock in LOCKS)
    assert learner == hub


def test_the_proxys_packages_have_hashes_and_no_address() -> None:
    """npm installs exactly the locked files of the proxy, from whatever registry is configured."""
    lock = json.loads((ROOT / "tests" / "hub" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert "node_modules/configurable-http-proxy" in packages
    assert [name for name, one in packages.items() if not one["integrity"].startswith("sha512-")] == []
    assert [name for name, one in packages.items() if "resolved" in one] == []


def test_the_pins_for_a_python_have_no_marker() -> None:
    """A pin whose marker excludes the Python is left out, and the others lose their markers but not their hashes."""
    lock = (
        "# a comment\n"
        "soup==2.10 ; python_full_version < '3.11.5' \\\n    --hash=sha256:aa\n    # via x\n"
        "soup==4.1.2 ; python_full_version >= '3.11.5' \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "tea==1 \\\n    --hash=sha256:dd\n"
    )
    assert pins_for(lock, "3.11.2") == "soup==2.10 --hash=sha256:aa\ntea==1 --hash=sha256:dd"
    assert pins_for(lock, "3.12.0") == "soup==4.1.2 --hash=sha256:bb --hash=sha256:cc\ntea==1 --hash=sha256:dd"
