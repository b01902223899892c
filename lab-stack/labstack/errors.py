"""The exceptions of the lab, as a tree. Those with a module in parentheses are defined there.

LabError
├── InvalidArgument     a public call got an argument of another type or range
├── UnknownComponent    the lab has no component of that name
├── NotRunning          the verb needs a running lab, or a running component
├── LabBusy             another process is changing this lab
├── TimedOut            a condition did not become true in time
├── PortTaken           another process listens on the port of a component
├── ProgramMissing      no Java (or another program) for this machine
├── EngineUnavailable   Docker is not installed, not running, not permitted, or too old
├── ClusterUnavailable  no Kubernetes cluster is configured, or it does not answer or refuses a request
├── DownloadFailed      the network failed, or a file is not as expected
│   └── VerificationFailed  a downloaded file is not the expected one (labstack.install.errors)
├── StorageError        a folder is not writable, or the disk is full
├── ComponentFailed     a component died or never became ready; carries the last lines of its log
├── BrokerUnavailable   the broker does not answer, or returns an error
├── KubectlFailed       kubectl reports an error about a request (labstack.backends.kubernetes.kubectl)
├── MeshError           an Istio configuration can't be applied (labstack.istio.errors, also its three subclasses)
├── InvalidRules        Prometheus' rules can't be applied (labstack.lifecycle.rules)
├── ScenarioError       a scenario's file is invalid, or the scenario does not exist (labstack.scenarios.model)
├── ConditionNotMet     the condition of a scenario's step was not met (labstack.scenarios.stage)
├── ScenarioActive      another scenario is active, or none is (labstack.scenarios.stage)
├── RelayFailed         Debezium's connector did not start, or an event did not arrive
│   └── ProbeEventLost  the lab's probe event did not arrive; carries the services whose relay lost it
└── DemoFailed          an order did not end as expected
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class LabError(Exception):
    """An error that the user can act on.

    Parameters
    ----------
    problem : str
        What failed, and what was seen.
    next_step : str, optional
        What to do about it.
    log : str, optional
        Last lines of the log that has more details.
    """

    def __init__(self, problem: str, *, next_step: str = "", log: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step
        self.log = log

    def _render_traceback_(self) -> list[str]:
        """Return the message without a traceback, for notebooks: only the message helps the user."""
        return [f"{type(self).__name__}: {self}"]

    def __str__(self) -> str:
        parts = [self.problem]
        if self.log:
            parts.append("Last lines of its log:\n" + "\n".join(f"    {line}" for line in self.log.splitlines()))
        if self.next_step:
            parts.append(f"Next step: {self.next_step}")
        return "\n".join(parts)


SHOWN = 40
"""Number of known names to show in advice for an unknown name."""


def one_of(name: str, known: Iterable[str], *, otherwise: str = "none exists yet") -> str:
    """Return advice for an unknown name: the closest known name, if one is close, and the known names.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str
        The known names; of many, only the first are listed.
    otherwise : str
        The advice if there is no known name.
    """
    names = list(known)
    if not names:
        return otherwise
    by_letters = {one.casefold(): one for one in names}  # of names that differ in case only, the last
    close = difflib.get_close_matches(name[:200].casefold(), by_letters, 1)
    meant = f"did you mean {by_letters[close[0]]!r}? Otherwise " if close else ""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{meant}use one of {', '.join(names[:SHOWN])}{more}"


class InvalidArgument(LabError):
    """A public call got an argument of another type or range; the message names the call and the parameter."""


class UnknownComponent(LabError):
    """The lab has no component of that name."""


class NotRunning(LabError):
    """The verb needs a running lab, or a running component."""


class LabBusy(LabError):
    """Another process is changing this lab."""


class TimedOut(LabError):
    """A condition did not become true in time; the message names it, and what was seen last."""


class PortTaken(LabError):
    """Another process listens on the port of a component."""


class ProgramMissing(LabError):
    """A program is not available for this machine."""


class EngineUnavailable(LabError):
    """The Docker engine is unavailable.

    Parameters
    ----------
    problem : str
        What failed, and what was seen.
    summary : str, optional
        The same in a few words: the reason to show if the lab uses local processes instead of containers.
    next_step : str, optional
        What to do about it.
    """

    def __init__(self, problem: str, *, summary: str = "", next_step: str = "") -> None:
        super().__init__(problem, next_step=next_step)
        self.summary = summary


class ClusterUnavailable(LabError):
    """No Kubernetes cluster is configured, or it does not answer, or it refuses a request."""


class DownloadFailed(LabError):
    """The network failed, or a file is not as expected."""


class StorageError(LabError):
    """A folder is not writable, or the disk is full."""


class ComponentFailed(LabError):
    """A component died, or never became ready."""


class BrokerUnavailable(LabError):
    """The broker does not answer, or returns an error."""


class RelayFailed(LabError):
    """Debezium's connector did not start, or an event did not arrive."""


class ProbeEventLost(RelayFailed):
    """The lab's probe event did not arrive.

    Parameters
    ----------
    problem : str
        What failed, and what was seen.
    services : tuple of str
        Services whose outbox event did not arrive.
    next_step : str
        What to do about it.
    """

    def __init__(self, problem: str, services: tuple[str, ...], *, next_step: str) -> None:
        super().__init__(problem, next_step=next_step)
        self.services = services


class DemoFailed(LabError):
    """An order did not end as expected."""


def is_port_conflict(error: LabError) -> bool:
    """Report whether a component failed because another process listens on its port."""
    return isinstance(error, PortTaken) or "address already in use" in error.log.lower()


def log_tail(path: Path, lines: int = 15, width: int = 400) -> str:
    """Return the last lines of a log file, each cut off at `width` characters; empty if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - width * lines - 64_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:width] for line in text.splitlines()[-lines:] if lines > 0)


CAUSE_LINE = re.compile(r"\b(ERROR|FATAL|CRITICAL)\b|Exception\b|Error:")


def failure_log(path: Path, lines: int = 15) -> str:
    """Return the last lines of a failed component's log, and lines further up that look like the cause.

    The last lines of a Java log are often the lower half of a stack trace, which does not contain the cause.
    """
    all_lines = log_tail(path, 200).splitlines()
    before, end = all_lines[:-lines], all_lines[-lines:]
    causes = [line for line in before if CAUSE_LINE.search(line)][:3]
    return "\n".join([*causes, "...", *end] if causes else end)


CODE_ERROR = re.compile(
    r"^\s*(\w*(?:SyntaxError|IndentationError|TabError|NameError|ImportError|ModuleNotFoundError|"
    r"AttributeError|TypeError)): ",
    re.MULTILINE,
)
CODE_LOCATION = re.compile(r'File "(?:[^"]*/)?(labservices/[^"]+)", line (\d+)')


def code_advice(log: str, name: str) -> str:
    """Return how to fix a service's code, if its log shows that the code is at fault; else an empty string.

    Parameters
    ----------
    log : str
        Last lines of its log.
    name : str
        Name of the component.
    """
    error, locations = CODE_ERROR.search(log), CODE_LOCATION.findall(log)
    if not error or not locations:
        return ""
    file, line = locations[-1]
    return f"fix {file}, line {line}, or restore it with `git checkout -- {file}`; then run `lab start {name}`"
