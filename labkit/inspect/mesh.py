"""The gateway: its routes, and the requests in its log."""

from __future__ import annotations

import pandas as pd

from labkit.client.traffic import meaning
from labkit.inspect.scope import Scope
from labstack.arguments import Count, checked_class

ROUTE_COLUMNS = ["name", "match", "to", "policy"]
ISTIO_RETRIES = "2 retries on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


@checked_class
class GatewayState:
    """Shows what Envoy does at the gateway.

    Parameters
    ----------
    scope : Scope
        The lab.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def routes(self) -> pd.DataFrame:
        """Return Envoy's current routes, in the order in which it tries them: the first match applies.

        `policy` abbreviates the default retries that Istio adds to a route without a retry policy.
        """
        routes = pd.DataFrame([route.to_json() for route in self._scope.lab.mesh.routes()], columns=ROUTE_COLUMNS)
        return routes.assign(policy=routes.policy.str.replace(ISTIO_RETRIES, "Istio's 2 retries", regex=False))

    def log(self, lines: Count = 10) -> pd.DataFrame:
        """Return the gateway's last requests, newest last.

        The columns include the status, the version that answered, the number of attempts, and the meaning of the
        response flags.
        """
        rows = [
            {
                "method": entry["method"],
                "path": self._scope.aliases.tidy(entry["path"]),
                "status": entry["response_code"],
                "version": entry["service_version"] or "-",
                "tries": entry["attempts"] or 0,
                "flag": entry["response_flags"],
                "meaning": meaning(entry["response_flags"]),
            }
            for entry in self._scope.lab.mesh.access_log(lines)
        ]
        return pd.DataFrame(rows, columns=["method", "path", "status", "version", "tries", "flag", "meaning"])
