"""A change of Envoy's files: at every moment each route has its cluster, and the change ends with Envoy's use of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, cast

import pytest

from labstack.backends.docker.component import Context
from labstack.backends.docker.components.envoy import Envoy as DockerEnvoy
from labstack.clients.envoy_admin import EnvoyAdmin, Versions
from labstack.config.paths import LabPaths
from labstack.errors import ComponentFailed
from labstack.gateway import envoy_files
from labstack.gateway.envoy_files import EnvoyFiles, ResourcesByName, resources_in
from labstack.gateway.xds_folder import XdsFolder
from labstack.istio import envoy_api
from labstack.istio.envoy_api import cluster_v3, discovery_v3, listener_v3, route_v3

KINDS = ("clusters", "routes", "listeners")


def route(name: str, *clusters: str) -> route_v3.RouteConfiguration:
    """Return a route configuration that leads to each of these clusters."""
    configuration = route_v3.RouteConfiguration(name=name)
    host = configuration.virtual_hosts.add(name="all", domains=["*"])
    for cluster in clusters:
        added = host.routes.add()
        added.match.prefix = f"/{cluster}"
        added.route.cluster = cluster
    return configuration


def resources(clusters: dict[str, int], **routes: list[str]) -> ResourcesByName:
    """Return resources: clusters with a timeout each, and routes with a listener each."""
    made = {name: cluster_v3.Cluster(name=name) for name in clusters}
    for name, seconds in clusters.items():
        made[name].connect_timeout.FromSeconds(seconds)
    return ResourcesByName(
        made,
        {name: listener_v3.Listener(name=name) for name in routes},
        {name: route(name, *targets) for name, targets in routes.items()},
    )


@dataclass
class LazyEnvoy:
    """An Envoy that reads one changed file per probe, and uses a new cluster only after a question for warming ones.

    Parameters
    ----------
    folder
        The folder of the files.
    order
        The kinds of files: of several changed files, it reads the first kind first.
    """

    folder: XdsFolder
    order: tuple[str, ...] = KINDS
    is_deaf: bool = False
    active: dict[Path, tuple[str, list[Any]]] = field(default_factory=dict)
    _warming: set[str] = field(default_factory=set)

    def read_all(self) -> None:
        """Read every file."""
        while self._read_next():
            self._warming.clear()

    def versions(self) -> Versions:
        """Read a changed file, and return the versions in use."""
        if not self.is_deaf:
            self._read_next()
        version = {path: version for path, (version, _) in self.active.items()}
        routes = {one.name: self.active[path][0] for path, one in self._routes()}
        return Versions(version.get(self.folder.clusters, ""), version.get(self.folder.listeners, ""), routes)

    def warming(self) -> int:
        """Return the number of clusters that can't be used yet; the next probe can use them."""
        number = len(self._warming)
        self._warming.clear()
        return number

    def in_use(self) -> ResourcesByName:
        """Return the resources that Envoy uses."""
        clusters, listeners = (
            {one.name: one for one in self.active[path][1]} for path in (self.folder.clusters, self.folder.listeners)
        )
        routes = {one.name: one for _, one in self._routes()}
        return ResourcesByName(clusters, listeners, {name: routes[name] for name in listeners})

    def _routes(self) -> Iterator[tuple[Path, route_v3.RouteConfiguration]]:
        for path, (_, found) in self.active.items():
            for one in found:
                if isinstance(one, route_v3.RouteConfiguration):
                    yield path, one

    def _clusters(self) -> set[str]:
        return {one.name for one in self.active.get(self.folder.clusters, ("", []))[1]}

    def _read_next(self) -> bool:
        for kind in self.order:
            for path in sorted(self.folder.path.glob(f"{kind}*.json")):
                response = envoy_api.parse(path.read_text(encoding="utf-8"), discovery_v3.DiscoveryResponse())
                if self.active.get(path, ("", []))[0] != response.version_info:
                    if path == self.folder.clusters:
                        self._warming = {one.name for one in resources_in(path)} - self._clusters()
                    self.active[path] = response.version_info, resources_in(path)
                    self._assert_complete()
                    return True
        return False

    def _assert_complete(self) -> None:
        """Assert that each route of a listener in use has its cluster. A listener without routes waits for them."""
        clusters = self._clusters() - self._warming
        routes = {one.name: one for _, one in self._routes()}
        for listener in self.active.get(self.folder.listeners, ("", []))[1]:
            for host in routes[listener.name].virtual_hosts if listener.name in routes else ():
                missing = {one.route.cluster for one in host.routes} - clusters
                assert not missing, f"{listener.name} leads to missing clusters: {missing}"


@pytest.fixture
def files(tmp_path: Path) -> EnvoyFiles:
    return EnvoyFiles(XdsFolder(tmp_path), "", Path("envoy"))


START = resources({"v1": 1, "v2": 1}, shop=["v1", "v2"])
CHANGES = {
    "a weight": resources({"v1": 1, "v2": 1}, shop=["v2", "v1"]),
    "a cluster is added": resources({"v1": 1, "v2": 1, "v3": 1}, shop=["v1", "v3"]),
    "a cluster is removed": resources({"v1": 1}, shop=["v1"]),
    "a cluster replaces another": resources({"v1": 1, "v3": 1}, shop=["v1", "v3"]),
    "a cluster changes": resources({"v1": 9, "v2": 1}, shop=["v1", "v2"]),
    "a listener is added": resources({"v1": 1, "v2": 1, "v3": 1}, shop=["v1", "v2"], side=["v3"]),
    "a listener replaces another": resources({"v3": 1}, side=["v3"]),
    "everything": resources({"v2": 9, "v3": 1}, shop=["v3"], side=["v2"]),
    "nothing": START,
}


def test_a_machine_without_envoy_can_run_it_in_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a system for which Envoy has no package, only the container's Envoy checks the gateway's configuration."""
    monkeypatch.setitem(sys.modules, "envoy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    context = Context("test", {}, LabPaths(tmp_path, tmp_path))
    files = DockerEnvoy(context, None, lambda: (), tmp_path).files
    files.validate(START)
    assert files.envoy is None


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("order", list(permutations(KINDS)), ids=" ".join)
def test_every_route_has_its_cluster_during_a_change(files: EnvoyFiles, order: tuple[str, ...], change: str) -> None:
    """In whatever order Envoy reads the files, no route lacks its cluster, and at the end Envoy uses the new ones."""
    envoy = LazyEnvoy(files.folder)
    files.write(START)
    envoy.read_all()
    envoy.order = order
    files.swap(CHANGES[change], START, cast(EnvoyAdmin, envoy))
    assert envoy.in_use() == CHANGES[change]
    assert files.read() == CHANGES[change]


@pytest.mark.parametrize(
    ("change", "what"),
    [("a weight", "routes"), ("a cluster changes", "clusters"), ("a listener is added", "clusters")],
)
def test_change_that_envoy_does_not_read_is_an_error(
    files: EnvoyFiles, monkeypatch: pytest.MonkeyPatch, change: str, what: str
) -> None:
    """A change raises if Envoy does not use it in time, and names the kind of file."""
    monkeypatch.setattr(envoy_files, "ACT_SECONDS", 0.05)
    envoy = LazyEnvoy(files.folder)
    files.write(START)
    envoy.read_all()
    envoy.is_deaf = True
    with pytest.raises(ComponentFailed, match=f"did not apply its new {what} within"):
        files.swap(CHANGES[change], START, cast(EnvoyAdmin, envoy))
