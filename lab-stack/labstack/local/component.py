"""What all components of local mode have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from labstack import roles
from labstack.local.process import Command
from labstack.observers import Watched
from labstack.paths import LabPaths


@dataclass(frozen=True)
class Site(Watched):
    """Where components run: folders, and who listens on which port.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    ports : mapping
        Port by port name; filled before anything starts.
    switches : mapping
        Teaching switches that are on, and their values, by service.
    """

    paths: LabPaths
    ports: Mapping[str, int]
    switches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Component(roles.Component):
    """One program of the stack, as a process.

    Attributes
    ----------
    ports : mapping
        The ports it listens on, by port name, and the usual number of each.
    """

    ports: Mapping[str, int] = MappingProxyType({})
    timeout = 75

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.site = site

    @property
    def log(self) -> Path:
        return self.site.paths.log(self.name)

    def began(self, pid: int) -> None:
        """Do what can only be done to the living program, once it serves."""

    def ended(self, pid: int) -> None:
        """Clear away what a program that was killed has left outside the lab's folders."""

    @abstractmethod
    def prepare(self) -> Command:
        """Write what it needs (data folder, configuration), and tell how to start it."""
