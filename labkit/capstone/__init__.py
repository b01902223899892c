"""The course's last task: an extension service beside the four, and the referee that checks it."""

from labkit.capstone.guest import Guest, invite
from labkit.capstone.referee import referee

__all__ = ["Guest", "invite", "referee"]
