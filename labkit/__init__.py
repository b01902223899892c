"""The public interface of the notebooks: attach to the lab, use the shop, inspect the system, and do the exercises.

from labkit import begin
lab, shop, look, tasks = begin("01")
"""

import labstack  # noqa: F401  # first, because it prepares the environment of the libraries
from labkit.session import Session, begin
from labkit.waiting import wait_until

__all__ = ["Session", "begin", "wait_until"]
