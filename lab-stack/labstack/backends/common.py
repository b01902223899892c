"""The code that all backends share."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from labstack.backends.base import Endpoints
from labstack.backends.components import (
    Broker,
    Component,
    ConnectWorker,
    ControlPlane,
    Database,
    Gateway,
    Observer,
    ShopService,
    Watcher,
)
from labstack.backends.dependencies import shutdown_stages
from labstack.clients.database_server import READER, DatabaseServer
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.clients.relay import Relay
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry
from labstack.errors import NotRunning, StorageError, UnknownComponent, one_of
from labstack.gateway.addresses import Addresses, ServiceInstance, adapted
from labstack.observability.observers import NAMES
from labstack.ports.reservations import PortReservations
from labstack.progress import Progress
from labstack.state import ComponentRecord, LabState, StateStore

if TYPE_CHECKING:
    from labstack.gateway.steering import Steering
    from labstack.gateway.store import ConfigurationStore
    from labstack.istio.documents import Document

_COMPONENT_SETTINGS = frozenset({"switches", "control_plane", "observed", "observers"})
"""The fields of the state that determine the components and their settings."""

LOG_LINES = 400
"""Number of lines at the end of istiod's log to search for a rejection."""

AnyComponent = TypeVar("AnyComponent", bound=Component)


class Ports(dict[str, int]):
    """The ports of a lab, by name; empty until its first start has chosen them."""

    def __missing__(self, name: str) -> int:
        raise NotRunning(f"The lab is not running: it has no port for {name} yet.", next_step="run `lab up`")


def observer_classes(package: str) -> tuple[Any, ...]:
    """Return a backend's class of each observer, such as ``Grafana`` in the module ``grafana`` of its components."""
    return tuple(getattr(import_module(f"{package}.{name}"), name.capitalize()) for name in NAMES)


class BackendBase(ABC, Generic[AnyComponent]):
    """The components of one lab.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    store : StateStore
        State file of the lab. Methods that change the lab expect the caller to hold the store's lock.
    services : tuple of ServiceEntry
        Services of the lab.
    state : LabState
        Snapshot of the lab's state. Methods that change the lab update it and write it.
    """

    def __init__(self, paths: LabPaths, store: StateStore, services: tuple[ServiceEntry, ...], state: LabState) -> None:
        self.paths = paths
        self.store = store
        self.services = services
        self.state = state
        self._ports = Ports(state.ports)
        self._state_lock = threading.RLock()

    def update(self, **changes: Any) -> None:
        """Change these fields of the snapshot, and write it to the state file."""
        with self._state_lock:
            for name, value in changes.items():
                setattr(self.state, name, value)
            if not _COMPONENT_SETTINGS.isdisjoint(changes):
                self.__dict__.pop("_components", None)  # a cached property, which may be empty already
            self.store.write(self.state)

    def _record(self, name: str, record: ComponentRecord) -> None:
        """Record the process of a component, or that it was stopped on purpose."""
        with self._state_lock:
            self.update(components={**self.state.components, name: record})

    @abstractmethod
    def _make_components(self) -> list[AnyComponent]:
        """Create all components, in startup order."""

    @cached_property
    def _components(self) -> dict[str, AnyComponent]:
        return {component.name: component for component in self._make_components()}

    def component(self, name: str) -> AnyComponent:
        """Return a component by name.

        Raises
        ------
        UnknownComponent
            The lab has no component of that name; the message lists the names that it has.
        """
        try:
            return self._components[name]
        except KeyError:
            raise UnknownComponent(
                f"The lab has no component {name!r}.", next_step=one_of(name, self._components)
            ) from None

    @property
    def _databases(self) -> dict[str, Any]:
        """The databases' components, by service."""
        found = (component for component in self._components.values() if isinstance(component, Database))
        return {database.service.name: database for database in found}

    def database_server(self, service: str) -> DatabaseServer:
        server: DatabaseServer = self._databases[service].server
        return server

    @property
    def gateway(self) -> Gateway:
        return next(component for component in self._components.values() if isinstance(component, Gateway))

    @property
    def control_plane(self) -> ControlPlane | None:
        found = (component for component in self._components.values() if isinstance(component, ControlPlane))
        return next(found, None)

    def components(self) -> list[str]:
        return list(self._components)

    def required(self) -> list[str]:
        return [
            n
            for n, component in self._components.items()
            if not component.optional and not isinstance(component, Observer)
        ]

    def observers(self) -> list[str]:
        return [name for name, component in self._components.items() if isinstance(component, Observer)]

    def _should_run(self, component: Component) -> bool:
        """Report whether a component should run; an optional one should only after an explicit start."""
        record = self.state.components.get(component.name)
        return not component.optional or (record is not None and not record.stopped_on_purpose)

    def prepare_for_observer(self, observer: str) -> None:
        """Prepare the running components for an observability component that joins them."""

    def addresses(self) -> Addresses:
        instances: dict[str, list[ServiceInstance]] = {service.name: [] for service in self.services}
        for component in self._components.values():
            if isinstance(component, ShopService) and self._should_run(component):
                instances[component.service.name].append(
                    ServiceInstance(component.version, *component.upstream_address)
                )
        bind, port = self.gateway.bind_address
        return Addresses(port, bind, {name: tuple(found) for name, found in instances.items()})

    @property
    def _reservations(self) -> PortReservations:
        return PortReservations(self.store.lab_id)

    def mesh_documents(self) -> list[Document]:
        """Return the mesh configuration that is in effect on this machine."""
        return self.for_gateway(self.mesh_store().read())

    def mesh_store(self) -> ConfigurationStore:
        """Return the storage of the mesh configuration in force."""
        from labstack.gateway.store import MeshStore  # YAML's import, which `lab status` does not need

        return MeshStore(self.paths)

    def for_gateway(self, documents: Iterable[Document]) -> list[Document]:
        """Return documents of the mesh configuration as the control plane on this machine receives them."""
        return adapted(documents, self.addresses())

    def steering(self) -> Steering:
        """Return the gateway's control plane, to apply a configuration."""
        from labstack.gateway.steering import IstiodSteering, TranslatorSteering  # Envoy's protobufs are slow to import

        admin = EnvoyAdmin(self.gateway.admin_url)
        if istiod := self.control_plane:
            name, write = istiod.name, istiod.write_configuration
            return IstiodSteering(write, lambda: self.log(name, LOG_LINES), admin)
        return TranslatorSteering(self.gateway.files, admin)

    @abstractmethod
    def log(self, name: str, lines: int) -> str:
        """Return the last lines of a component's log."""

    # -- the relay and the services --------------------------------------------------------------------------------

    @abstractmethod
    def database_for_connect(self, service: str) -> DatabaseServer:
        """Return the database server of a service, as Connect reaches it."""

    def server_for_extensions(self, service: str) -> DatabaseServer:
        """Return the database server of a service, to create the database of an extension service in it."""
        return self.database_server(service)

    def register_connector(self, service: str, meanwhile: Callable[[], None]) -> None:
        """Create or update the connector of a service."""
        Relay(self.endpoints().connect).register(self.database_for_connect(service), meanwhile)

    @contextlib.contextmanager
    def every_instance(self) -> Iterator[dict[str, list[str]]]:
        """Yield the base URL of the one instance of each service."""
        yield {service: [url] for service, url in self.endpoints().services.items()}

    @abstractmethod
    def prepare(self, progress: Progress) -> None:
        """Download and verify the programs that components need."""

    def prefetch(self, progress: Progress) -> None:
        """Prepare a later start, so that it needs no network; start nothing."""
        self.prepare(progress)

    # -- addresses -------------------------------------------------------------------------------------------------

    def endpoints(self) -> Endpoints:
        components = list(self._components.values())
        gateway = next((component for component in components if isinstance(component, Gateway)), None)
        if not all(component.name in self._ports for component in components):
            return Endpoints()
        return Endpoints(
            services={
                component.name: component.url
                for component in components
                if isinstance(component, ShopService) and not component.optional
            },
            versions={
                component.name: component.url
                for component in components
                if isinstance(component, ShopService) and component.optional and self._should_run(component)
            },
            databases={name: database.url for name, database in self._databases.items()},
            readable={name: database.server.url(READER) for name, database in self._databases.items()},
            kafka=next(component.address for component in components if isinstance(component, Broker)),
            connect=next(component.url for component in components if isinstance(component, ConnectWorker)),
            watcher=next(component.url for component in components if isinstance(component, Watcher)),
            gateway=gateway.url if gateway else "",
            envoy_admin=gateway.admin_url if gateway else "",
            istiod=self.control_plane.url if self.control_plane else "",
            observers={component.name: component.url for component in components if isinstance(component, Observer)},
        )

    def _stop_in_order(self, end: Callable[[str], None]) -> None:
        """Stop each component after those that depend on it; independent components stop in parallel."""
        with ThreadPoolExecutor(12) as pool:
            for stage in shutdown_stages(self._components.values()):
                list(pool.map(end, stage))

    def _record_shutdown(self) -> None:
        """Record that nothing runs, and release the port reservations."""
        stopped = ComponentRecord(None, stopped_on_purpose=True)
        with contextlib.suppress(StorageError):
            self.update(components=dict.fromkeys(self._components, stopped))
        self._reservations.release()
