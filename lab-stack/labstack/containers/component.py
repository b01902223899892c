"""What all components of container mode have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from testcontainers.core.container import DockerContainer

from labstack import roles
from labstack.containers.images import image
from labstack.observers import Watched


@dataclass(frozen=True)
class Site(Watched):
    """Where components run.

    Parameters
    ----------
    lab_id : str
        The lab's, as in its containers' labels and names.
    ports : mapping
        Port on 127.0.0.1 by component; filled before anything starts.
    password : str
        Of the databases.
    switches : mapping
        Teaching switches that are on, and their values, by service.
    """

    lab_id: str
    ports: Mapping[str, int]
    password: str
    switches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    address: Callable[[str], str] = lambda name: ""
    """The IP address of a component's container in the lab's network."""
    log: Callable[[str, int], str] = lambda name, lines: ""
    """The last lines that a component's container has written."""
    run: Callable[[str, list[str]], str] = lambda name, command: ""
    """Runs a command in a component's container, and returns what it printed."""
    put: Callable[[str, str, bytes], None] = lambda name, folder, archive: None
    """Unpacks a tar archive into a folder of a component's container."""


class Component(roles.Component):
    """One program of the stack, in a container.

    Attributes
    ----------
    usual_port : int
        The port on 127.0.0.1 that it gets if that is free.
    inner_port : int
        The port that it listens on in its container.
    more_ports : mapping
        Further ports by name: the usual one on 127.0.0.1, and the one in its container.
    entry_point : tuple of str
        What to start instead of the image's own program. Empty for that.
    volume : str
        Where its data lie in the container; they outlive it. Empty for what has none.
    shared_volume : str
        Where the volume lies that this component has in common with those of other labs. Empty for none.
    after : tuple of str
        Whose names it looks up at its start: their containers are started before it.
    restarts : bool
        Whether the engine starts it again when it ends with an error; not after a stop or a kill.
    """

    usual_port: int
    inner_port: int
    more_ports: Mapping[str, tuple[int, int]] = MappingProxyType({})
    entry_point: tuple[str, ...] = ()
    volume: str = ""
    shared_volume: str = ""
    after: tuple[str, ...] = ()
    restarts: bool = False

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.site = site

    @property
    def image(self) -> str:
        """The image that it runs."""
        return image(self.image_name)

    image_name: str = ""

    @abstractmethod
    def configure(self, container: DockerContainer) -> None:
        """Give the container what its image asks for: variables, command, files."""
