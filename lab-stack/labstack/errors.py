"""What can go wrong with the lab, as a tree of errors.

LabError
├── UnknownComponent    a name that the lab doesn't have
├── NotRunning          the verb needs a running lab, or a running component
├── LabBusy             another process is changing this lab
├── PortTaken           somebody else listens where a component wants to
├── ProgramMissing      no Java (or another program) for this machine
├── EngineAway          Docker is not there, not running, not permitted, or too old
├── DownloadFailed      the network, or a file that is not what it should be
├── StorageTrouble      a folder that can't be written, a full disk
├── ComponentFailed     a component died or never became ready; carries the end of its log
├── BrokerAway          the broker gives no answer, or a bad one
├── MeshError           an Istio configuration that can't be put into force (labstack.mesh.errors)
├── RelayFailed         Debezium's connector did not come up, or an event did not come through
│   └── CanaryLost      the lab's own event did not: whose relay it is
└── DemoFailed          an order did not end as it should
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class LabError(Exception):
    """Something went wrong that a person can act upon.

    Parameters
    ----------
    problem : str
        What was tried and what was seen.
    next_step : str, optional
        What to do about it.
    log : str, optional
        The end of the log that tells more.
    """

    def __init__(self, problem: str, *, next_step: str = "", log: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.next_step = next_step
        self.log = log

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the message, and no stack of calls, since it is the message that helps."""
        return [f"{type(self).__name__}: {self}"]

    def __str__(self) -> str:
        parts = [self.problem]
        if self.log:
            parts.append("The end of its log:\n" + "\n".join(f"    {line}" for line in self.log.splitlines()))
        if self.next_step:
            parts.append(f"Next step: {self.next_step}")
        return "\n".join(parts)


def one_of(name: str, known: Iterable[str]) -> str:
    """Return what to use instead of a name that there is not: the closest one, if one is close, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]!r}? Else " if close else ""
    return f"{meant}use one of {', '.join(names)}"


class UnknownComponent(LabError):
    """A name that the lab doesn't have."""


class NotRunning(LabError):
    """The verb needs a running lab, or a running component."""


class LabBusy(LabError):
    """Another process is changing this lab."""


class PortTaken(LabError):
    """Somebody else listens where a component wants to."""


class ProgramMissing(LabError):
    """There is no such program for this machine."""


class EngineAway(LabError):
    """The Docker engine can't be used.

    Parameters
    ----------
    problem : str
        What was tried and what was seen.
    summary : str, optional
        The same in a few words, where local processes can replace the containers.
    next_step : str, optional
        What to do about it.
    """

    def __init__(self, problem: str, *, summary: str = "", next_step: str = "") -> None:
        super().__init__(problem, next_step=next_step)
        self.summary = summary


class DownloadFailed(LabError):
    """The network is away, or a file is not what it should be."""


class StorageTrouble(LabError):
    """A folder can't be written, or the disk is full."""


class ComponentFailed(LabError):
    """A component died, or never became ready."""


class BrokerAway(LabError):
    """The broker gives no answer, or a bad one."""


class RelayFailed(LabError):
    """Debezium's connector did not come up, or an event did not come through."""


class CanaryLost(RelayFailed):
    """The lab's own event did not come through.

    Parameters
    ----------
    problem : str
        What was tried and what was seen.
    services : tuple of str
        From whose outboxes it did not come.
    next_step : str
        What to do about it.
    """

    def __init__(self, problem: str, services: tuple[str, ...], *, next_step: str) -> None:
        super().__init__(problem, next_step=next_step)
        self.services = services


class DemoFailed(LabError):
    """An order did not end as it should."""


def lost_its_port(error: LabError) -> bool:
    """Whether a component failed since somebody else listens on its port."""
    return isinstance(error, PortTaken) or "address already in use" in error.log.lower()


def log_tail(path: Path, lines: int = 15, width: int = 400) -> str:
    """Return the last lines of a log file, each cut off at `width`, or an empty string where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - width * lines - 64_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line[:width] for line in text.splitlines()[-lines:])


CAUSE = re.compile(r"\b(ERROR|FATAL|CRITICAL)\b|Exception\b|Error:")


def log_of_a_death(path: Path, lines: int = 15) -> str:
    """Return the last lines of a dead component's log, and what looks like the cause if that stands further up.

    Java's last lines are often the lower half of a stack trace, which says everything but what went wrong.
    """
    every = log_tail(path, 200).splitlines()
    before, end = every[:-lines], every[-lines:]
    causes = [line for line in before if CAUSE.search(line)][:3]
    return "\n".join([*causes, "...", *end] if causes else end)


BROKEN_CODE = re.compile(
    r"^\s*(\w*(?:SyntaxError|IndentationError|TabError|NameError|ImportError|ModuleNotFoundError|"
    r"AttributeError|TypeError)): ",
    re.MULTILINE,
)
PLACE = re.compile(r'File "(?:[^"]*/)?(labservices/[^"]+)", line (\d+)')


def advice_on_code(log: str, name: str) -> str:
    """Return what to mend in a service's code and then to do, where the end of its log says that the code is at fault.

    Parameters
    ----------
    log : str
        The end of its log.
    name : str
        The component, as the lab calls it.
    """
    error, places = BROKEN_CODE.search(log), PLACE.findall(log)
    if not error or not places:
        return ""
    file, line = places[-1]
    return f"mend {file}, line {line}, or bring it back by `git checkout -- {file}`; then `lab start {name}`"
