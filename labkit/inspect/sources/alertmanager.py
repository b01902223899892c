"""A small client of Alertmanager's HTTP API that returns tables.

Source: Alertmanager's manual, "Alerts API", version 2.
"""

from __future__ import annotations

import httpx
import pandas as pd

from labkit.errors import KitError
from labstack.arguments import checked_class
from labstack.clients import http

TIMEOUT = 5.0
"""The timeout for an answer, in seconds."""


class NoAlertmanager(KitError):
    """The lab has no Alertmanager, or it does not answer."""


@checked_class
class AlertmanagerClient:
    """Reads the alerts of one Alertmanager.

    Parameters
    ----------
    url : str
        Its base URL; empty if the lab has no Alertmanager.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def alerts(self) -> pd.DataFrame:
        """Return the alerts that are not resolved: ``alert``, ``state``, ``service`` and ``receiver``.

        An alert is ``active``, or ``suppressed`` by an inhibition rule or a silence.

        Raises
        ------
        NoAlertmanager
            The lab has no Alertmanager, or it does not answer.
        """
        if not self.url:
            raise NoAlertmanager(
                "This lab has no Alertmanager.",
                next_step="`lab install alertmanager` installs it, then `lab up` adds it to the running lab",
            )
        try:
            found = http.get(f"{self.url}/api/v2/alerts", timeout=TIMEOUT).raise_for_status().json()
        except httpx.HTTPError as error:
            raise NoAlertmanager(
                f"Alertmanager doesn't answer ({type(error).__name__}).",
                next_step="`lab` shows how it is, `lab.start('alertmanager')` starts it; Prometheus keeps its alerts",
            ) from None
        rows = [
            {
                "alert": one["labels"]["alertname"],
                "state": one["status"]["state"],
                "service": one["labels"].get("service", ""),
                "receiver": ", ".join(receiver["name"] for receiver in one["receivers"]),
            }
            for one in found
        ]
        columns = ["alert", "state", "service", "receiver"]
        return pd.DataFrame(rows, columns=columns).sort_values(columns).reset_index(drop=True)
