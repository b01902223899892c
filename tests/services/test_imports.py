"""The imports of a service at startup."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["requests", "google.protobuf"])
def test_exporters_are_imported_only_if_spans_are_exported(library: str) -> None:
    """A service that exports no spans does not import the exporters, which are a fifth of all imports."""
    code = (
        "import sys; from labservices import runtime; from labservices.telemetry import tracing; "
        f"print({library!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("False", 0), done.stderr
