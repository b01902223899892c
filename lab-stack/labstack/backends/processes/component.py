"""Base classes for the components of the local backend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from labstack.backends import components as interfaces
from labstack.backends.processes.process import Command
from labstack.config.paths import LabPaths
from labstack.observability.observers import ObservabilitySettings


@dataclass(frozen=True)
class Context(ObservabilitySettings):
    """Folders, ports and settings that the components of a lab share.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    ports : mapping
        Port number by port name; filled before any component starts.
    switches : mapping
        Active fault switches and their values, by service.
    """

    paths: LabPaths
    ports: Mapping[str, int]
    switches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Component(interfaces.Component):
    """One program of the stack, as a process.

    Attributes
    ----------
    ports : mapping
        Usual port number by port name, for each port that the component listens on.
    """

    ports: Mapping[str, int] = MappingProxyType({})
    timeout = 75

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.context = context

    @property
    def log(self) -> Path:
        return self.context.paths.log(self.name)

    def on_ready(self, pid: int) -> None:
        """Complete the setup that needs the running, ready process."""

    def on_exit(self, pid: int) -> None:
        """Remove files that the ended process left outside the lab's folders."""

    @abstractmethod
    def prepare(self) -> Command:
        """Create the data folder and configuration, and return the command that starts the component."""
