"""The lab's stack: one object, `Lab`, that starts, shows, breaks, heals and stops the system."""

from typing import TYPE_CHECKING, Any

from labstack.errors import LabError

if TYPE_CHECKING:
    from labstack.lab import Lab

__all__ = ["Lab", "LabError"]


def __getattr__(name: str) -> Any:
    """Import `Lab` when it is first asked for: `lab --version` does without what it imports (PEP 562)."""
    if name == "Lab":
        from labstack.lab import Lab

        return Lab
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
