"""A small client of Alertmanager's HTTP API that returns tables.

Source: Alertmanager's manual, "Alerts API", version 2.
"""

from __future__ import annotations

import pandas as pd

from labkit.errors import KitError
from labkit.sources.http_source import HttpSource
from labstack.arguments import checked_class


class NoAlertmanager(KitError):
    """The lab has no Alertmanager, or it does not answer."""


@checked_class
class AlertmanagerClient(HttpSource):
    """Reads the alerts of one Alertmanager.

    Parameters
    ----------
    url : str
        Its base URL; empty if the lab has no Alertmanager.
    """

    component = "Alertmanager"
    unavailable = NoAlertmanager
    installation = "`lab install alertmanager` installs it, then `lab up` adds it to the running lab"
    meanwhile = "Prometheus keeps its alerts"

    def alerts(self) -> pd.DataFrame:
        """Return the alerts that are not resolved: ``alert``, ``state``, ``service`` and ``receiver``.

        An alert is ``active``, or ``suppressed`` by an inhibition rule or a silence.

        Raises
        ------
        NoAlertmanager
            The lab has no Alertmanager, or it does not answer.
        """
        rows = [
            {
                "alert": one["labels"]["alertname"],
                "state": one["status"]["state"],
                "service": one["labels"].get("service", ""),
                "receiver": ", ".join(receiver["name"] for receiver in one["receivers"]),
            }
            for one in self._json(self._request("GET", "/api/v2/alerts"))
        ]
        columns = ["alert", "state", "service", "receiver"]
        return pd.DataFrame(rows, columns=columns).sort_values(columns).reset_index(drop=True)
