"""Step 4: publication, slot and connector, from the first deployment to a change while Connect restarts."""

from labkit.build.connector.task import TASK

__all__ = ["TASK"]
