"""The lab's stack. One object, `Lab`, starts, inspects, breaks, repairs and stops the system."""

import os
from typing import TYPE_CHECKING, Any

from labstack.errors import LabError

if TYPE_CHECKING:
    from labstack.lab import Lab

__all__ = ["Lab", "LabError"]

# Users set these for other programs: the builds of protobuf and psycopg, and where metrics and spans go. The libraries
# read them when they are imported, and fail if the lab does not have what they name.
_FOREIGN = ("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "PSYCOPG_IMPL", "PROMETHEUS_MULTIPROC_DIR")
for _name in [name for name in os.environ if name.upper() in _FOREIGN or name.startswith("OTEL_")]:
    del os.environ[_name]


def __getattr__(name: str) -> Any:
    """Import `Lab` on first access, so that `lab --version` does not load its dependencies (PEP 562)."""
    if name == "Lab":
        from labstack.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
