"""Base classes for the components of the container backend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from testcontainers.core.container import DockerContainer

from labstack.backends import components as interfaces
from labstack.backends.docker.images import image
from labstack.config.paths import LabPaths
from labstack.observability.observers import ObservabilitySettings


@dataclass(frozen=True)
class Context(ObservabilitySettings):
    """Ports, network and settings that the components of a lab share.

    Parameters
    ----------
    lab_id : str
        Id of the lab, as in its containers' labels and names.
    ports : mapping
        Port on 127.0.0.1 by port name; filled before any component starts.
    paths : LabPaths
        Folders of the lab.
    switches : mapping
        Active fault switches and their values, by service.
    """

    lab_id: str
    ports: Mapping[str, int]
    paths: LabPaths
    switches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    address: Callable[[str], str] = lambda name: ""
    """Returns the IP address of a component's container in the lab's network."""
    log: Callable[[str, int], str] = lambda name, lines: ""
    """Returns the last lines of a component container's log."""
    run: Callable[[str, list[str]], str] = lambda name, command: ""
    """Runs a command in a component's container, and returns its standard output."""
    put: Callable[[str, str, bytes], None] = lambda name, folder, archive: None
    """Unpacks a tar archive into a folder of a component's container."""


class Component(interfaces.Component):
    """One program of the stack, in a container.

    Attributes
    ----------
    usual_port : int
        Port on 127.0.0.1, if it is free.
    inner_port : int
        Port in the container.
    more_ports : mapping
        Further ports by name: the usual one on 127.0.0.1, and the one in the container.
    entry_point : tuple of str
        Command that replaces the image's entry point. Empty to keep it.
    volume : str
        Mount point of the data volume, which outlives the container. Empty for none.
    shared_volume : str
        Mount point of the volume that all labs share for this component. Empty for none.
    restarts : bool
        Whether the engine restarts the container after an error exit. It does not after a stop or a kill.
    """

    usual_port: int
    inner_port: int
    more_ports: Mapping[str, tuple[int, int]] = MappingProxyType({})
    entry_point: tuple[str, ...] = ()
    volume: str = ""
    shared_volume: str = ""
    restarts: bool = False

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.context = context

    @property
    def image(self) -> str:
        """The container's image."""
        return image(self.image_name)

    image_name: str = ""

    @abstractmethod
    def configure(self, container: DockerContainer) -> None:
        """Set the environment variables, command and files that the image needs."""
