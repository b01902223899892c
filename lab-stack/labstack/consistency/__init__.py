"""The referee (invariant checker): check the promises between the services in databases and topics.

It does not trust the services' own reports. `evidence` collects the data, `invariants` evaluates them, and `referee`
does both for a running lab: `lab check`.
"""

from labstack.consistency.invariants import Verdict
from labstack.consistency.referee import check

__all__ = ["Verdict", "check"]
