"""The lab's stack: one object, `Lab`, that starts, shows, breaks, heals and stops the system."""

from labstack.errors import LabError
from labstack.lab import Lab

__all__ = ["Lab", "LabError"]
