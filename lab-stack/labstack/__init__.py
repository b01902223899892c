"""The lab's stack. One object, `Lab`, starts, inspects, breaks, repairs and stops the system."""

from typing import TYPE_CHECKING, Any

from labstack.errors import LabError

if TYPE_CHECKING:
    from labstack.lab import Lab

__all__ = ["Lab", "LabError"]


def __getattr__(name: str) -> Any:
    """Import `Lab` on first access, so that `lab --version` does not load its dependencies (PEP 562)."""
    if name == "Lab":
        from labstack.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
