"""The lab's stack: one object, `Lab`, that starts, shows, breaks, heals and stops the system."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labstack.errors import LabError
    from labstack.lab import Lab

__all__ = ["Lab", "LabError"]


def __getattr__(name: str) -> Any:
    """Import `Lab` when it is first asked for: most of a second, which `lab --version` does without (PEP 562)."""
    if name == "Lab":
        from labstack.lab import Lab

        return Lab
    if name == "LabError":
        from labstack.errors import LabError

        return LabError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
