"""The course's last task: an extension service beside the four, and the referee that checks it."""

from labkit.capstone.extension import ExtensionService, create_extension
from labkit.capstone.referee import referee

__all__ = ["ExtensionService", "create_extension", "referee"]
