"""The `lab` command starts fast: it imports only what the invoked command needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"confluent_kafka", "docker", "httpx", "labservices", "psycopg", "pydantic", "sqlalchemy"}


@pytest.mark.parametrize("words", [["--version"], ["--help"]], ids=" ".join)
def test_version_and_help_are_shown_without_importing_the_lab(words: list[str]) -> None:
    """Version and help are shown without importing the lab, its services and their libraries."""
    code = (
        "import sys\n"
        "from labstack.cli import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_package_exports_lab_and_lab_error() -> None:
    """`from labstack import Lab, LabError` works, and a misspelt name is rejected."""
    import labstack
    from labstack import Lab, LabError

    assert issubclass(LabError, Exception)
    assert Lab.__module__ == "labstack.lab"
    with pytest.raises(AttributeError, match="Lib"):
        _ = labstack.Lib
