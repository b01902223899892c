"""The rules that a learner adds to Prometheus: `lab.extensions.rules.apply(text)`, beside the lab's own rules.

Source: Prometheus' manual, "Configuration" (a SIGHUP reloads it) and "Recording rules".
"""

from __future__ import annotations

import re

import httpx
import yaml

from labstack.arguments import checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.components import Prometheus
from labstack.clients import http
from labstack.config.paths import write_atomically
from labstack.errors import LabError, NotRunning
from labstack.waiting import poll_until

RELOADED = "prometheus_config_last_reload_success_timestamp_seconds"
SUCCESSFUL = "prometheus_config_last_reload_successful"
TIMEOUT = 20
LOG_LINES = 40
"""Number of lines at the end of Prometheus' log to search for a rejection."""


class InvalidRules(LabError):
    """The text of the rules is invalid, or Prometheus rejects it.

    After a rejection by Prometheus, no rules of the learner are in force. Otherwise the earlier ones stay in force.
    """


@checked_class
class Rules:
    """The additional alerting and recording rules of one lab.

    Parameters
    ----------
    access : LabAccess
        Access to the lab.

    Examples
    --------
    >>> lab.extensions.rules.apply("groups: [{name: mine, rules: [{alert: NothingUp, expr: sum(up) == 0}]}]")
    >>> lab.extensions.rules.reset()
    """

    def __init__(self, access: LabAccess) -> None:
        self._access = access
        self._in_force = access.paths.config("rules") / "in-force.yml"

    def apply(self, text: str) -> None:
        """Load a file of rules into the running Prometheus; it replaces the file that was applied before.

        Parameters
        ----------
        text : str
            The rule file, as YAML.

        Raises
        ------
        InvalidRules
            The text is not YAML, has no `groups`, or is rejected by Prometheus. The message contains the reason.
        NotRunning
            The lab has no Prometheus, or it does not run.
        """
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidRules(
                f"The rules are not valid YAML: {error}",
                next_step="fix the line; the items of a list or map need the same indent",
            ) from None
        if not isinstance(document, dict) or not document.get("groups"):
            raise InvalidRules(
                "The rules have no `groups`.",
                next_step="start with `groups:`; each group needs `name` and `rules`",
            )
        with self._access.changing() as backend:
            if not self._load(text, backend):
                log = backend.log(Prometheus.name, LOG_LINES)
                self._load("", backend)
                self._in_force.unlink(missing_ok=True)
                raise InvalidRules(f"Prometheus rejects the rules: {_reason(log)}", next_step="correct the rule file")
            self._in_force.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._in_force, text)

    def reset(self) -> None:
        """Remove the applied rules, if any."""
        if not self._in_force.exists():
            return
        with self._access.changing() as backend:
            self._load("", backend)
            self._in_force.unlink(missing_ok=True)

    def _load(self, text: str, backend: Backend) -> bool:
        """Replace the rules and reload; return whether Prometheus accepts them."""
        if Prometheus.name not in backend.observers() or backend.inspect(Prometheus.name).state != "running":
            raise NotRunning(
                "Prometheus is not running, so it can't load rules.",
                next_step="run `lab install prometheus` if it is missing, then `lab up`",
            )
        component = backend.component(Prometheus.name)
        assert isinstance(component, Prometheus)
        before = _metrics(component.url)
        component.put_rules(text)
        backend.reload(Prometheus.name)
        now = before

        def has_reloaded() -> bool:
            nonlocal now
            now = _metrics(component.url)
            return now[RELOADED] > before[RELOADED] or now[SUCCESSFUL] == 0

        if not poll_until(has_reloaded, TIMEOUT):
            raise LabError(
                f"Prometheus did not reload its configuration within {TIMEOUT} s.",
                next_step="look at `lab logs prometheus`, then try again",
            )
        return now[SUCCESSFUL] == 1


def _metrics(url: str) -> dict[str, float]:
    """Return the two metrics with which Prometheus reports its last reload."""
    try:
        text = http.get(f"{url}/metrics", timeout=5).raise_for_status().text
    except httpx.HTTPError as error:
        raise LabError(
            f"Prometheus doesn't answer ({type(error).__name__}).", next_step="look at `lab logs prometheus`"
        ) from error
    return {name: float(value) for name, value in re.findall(rf"^({RELOADED}|{SUCCESSFUL}) (\S+)", text, re.MULTILINE)}


def _reason(log: str) -> str:
    """Return the last reason for a rejection in Prometheus' log."""
    found: list[str] = re.findall(r'own\.rules\.yml\\?"?: (.*)', log)
    return found[-1].replace('\\"', '"').rstrip('"') if found else "see `lab logs prometheus`"
