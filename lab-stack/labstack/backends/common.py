"""The code that both backends share."""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Generic, TypeVar

from labstack.backends.base import Endpoints
from labstack.backends.components import (
    ENDING,
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
from labstack.config.paths import LabPaths
from labstack.config.services import ServiceEntry
from labstack.errors import StorageTrouble, UnknownComponent, one_of
from labstack.gateway.addresses import Addresses, Instance, placed
from labstack.gateway.store import MeshStore
from labstack.istio.documents import Document
from labstack.observability.observers import Watched
from labstack.ports.claims import PortClaims
from labstack.state import ComponentRecord, StateStore

Part = TypeVar("Part", bound=Component)


class BackendBase(ABC, Generic[Part]):
    """The components of one lab.

    Parameters
    ----------
    paths : LabPaths
        Folders of the lab.
    store : StateStore
        State file of the lab. Methods that change the lab expect the caller to hold the store's lock.
    services : tuple of ServiceEntry
        Services of the lab.
    """

    def __init__(self, paths: LabPaths, store: StateStore, services: tuple[ServiceEntry, ...]) -> None:
        self.paths = paths
        self.store = store
        self.services = services
        self._ports: dict[str, int] = dict(store.read().ports)
        self._writing = threading.Lock()

    @abstractmethod
    def _make_components(self) -> list[Part]:
        """Create all components, in startup order."""

    def _observers(
        self,
        site: Watched,
        prometheus: Callable[..., Part],
        jaeger: Callable[..., Part],
        grafana: Callable[..., Part],
    ) -> list[Part]:
        """Create the observability components that the lab has."""
        made: dict[str, Callable[[], Part]] = {
            "prometheus": lambda: prometheus(site, self.addresses),
            "jaeger": lambda: jaeger(site),
            "grafana": lambda: grafana(site),
        }
        return [make() for name, make in made.items() if name in site.observers]

    @cached_property
    def _components(self) -> dict[str, Part]:
        return {part.name: part for part in self._make_components()}

    def component(self, name: str) -> Part:
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

    def components(self) -> list[str]:
        return list(self._components)

    def required(self) -> list[str]:
        return [n for n, part in self._components.items() if not part.optional and not isinstance(part, Observer)]

    def observers(self) -> list[str]:
        return [name for name, part in self._components.items() if isinstance(part, Observer)]

    def _is_wanted(self, part: Component) -> bool:
        """Report whether a component should run; an optional one should only after an explicit start."""
        record = self.store.read().components.get(part.name)
        return not part.optional or (record is not None and not record.stopped_on_purpose)

    def introduce(self, observer: str) -> None:
        """Prepare the running components for an observability component that joins them."""

    def addresses(self) -> Addresses:
        instances: dict[str, list[Instance]] = {service.name: [] for service in self.services}
        for part in self._components.values():
            if isinstance(part, ShopService) and self._is_wanted(part):
                instances[part.service.name].append(Instance(part.version, *part.place))
        gateway = next(part for part in self._components.values() if isinstance(part, Gateway))
        bind, port = gateway.listens
        return Addresses(port, bind, {name: tuple(found) for name, found in instances.items()})

    @property
    def _claims(self) -> PortClaims:
        return PortClaims(self.store.lab_id)

    def mesh_documents(self) -> list[Document]:
        """Return the mesh configuration that is in effect on this machine."""
        return placed(MeshStore(self.paths).read(), self.addresses())

    def endpoints(self) -> Endpoints:
        parts = list(self._components.values())
        if not all(part.name in self._ports for part in parts):
            return Endpoints()
        return Endpoints(
            services={part.name: part.url for part in parts if isinstance(part, ShopService) and not part.optional},
            versions={
                part.name: part.url
                for part in parts
                if isinstance(part, ShopService) and part.optional and self._is_wanted(part)
            },
            databases={part.service.name: part.url for part in parts if isinstance(part, Database)},
            kafka=next(part.address for part in parts if isinstance(part, Broker)),
            connect=next(part.url for part in parts if isinstance(part, ConnectWorker)),
            watcher=next(part.url for part in parts if isinstance(part, Watcher)),
            gateway=next(part.url for part in parts if isinstance(part, Gateway)),
            envoy_admin=next(part.admin_url for part in parts if isinstance(part, Gateway)),
            istiod=next((part.url for part in parts if isinstance(part, ControlPlane)), ""),
            observers={part.name: part.url for part in parts if isinstance(part, Observer)},
        )

    def _end_in_order(self, end: Callable[[str], None]) -> None:
        """Stop all components in shutdown order; those of one stage stop in parallel."""
        with ThreadPoolExecutor(8) as pool:
            for kinds in ENDING:
                list(pool.map(end, [name for name, part in self._components.items() if part.kind in kinds]))

    def _note_the_end(self) -> None:
        """Record that nothing runs, and release the port reservations."""
        state = self.store.read()
        state.components = dict.fromkeys(self._components, ComponentRecord(None, stopped_on_purpose=True))
        with contextlib.suppress(StorageTrouble):
            self.store.write(state)
        self._claims.release()
