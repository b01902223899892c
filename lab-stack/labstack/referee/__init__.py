"""The referee: does all that the services promise each other hold? Judged from databases and topics, not from what
services say.

`evidence` collects what there is, `invariants` judges it, `referee` does both for a running lab: `lab check`.
"""

from labstack.referee.invariants import Verdict
from labstack.referee.referee import check

__all__ = ["Verdict", "check"]
