"""The course's last task: a service of one's own beside the four, and what judges it."""

from labkit.capstone.guest import Guest, invite
from labkit.capstone.referee import referee

__all__ = ["Guest", "invite", "referee"]
