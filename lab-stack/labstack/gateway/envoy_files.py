"""Envoy's configuration in files: delivery of the translator's resources without a running control plane.

Envoy watches each file and reloads it when it is replaced. Clusters are added before the routes that use them and
removed after these routes, so that no request matches a route to a missing cluster.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api (filesystem subscriptions)
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.config.environment import run
from labstack.config.paths import write_atomically
from labstack.errors import ComponentFailed
from labstack.gateway.access_log import log_format
from labstack.gateway.limits import add_limits
from labstack.gateway.xds_folder import XdsFolder
from labstack.istio import envoy_api
from labstack.istio.envoy_api import (
    accesslog_v3,
    bootstrap_v3,
    cluster_v3,
    core_v3,
    discovery_v3,
    endpoint_v3,
    file_v3,
    hcm_v3,
    listener_v3,
    route_v3,
)
from labstack.istio.errors import InvalidMesh
from labstack.istio.translate import Translation
from labstack.waiting import poll_until

ACT_SECONDS = 20.0
"""Maximum time, in seconds, for Envoy to apply a valid configuration."""


@dataclass(frozen=True)
class ResourcesByName:
    """Envoy's resources: each kind by name."""

    clusters: Mapping[str, cluster_v3.Cluster]
    listeners: Mapping[str, listener_v3.Listener]
    routes: Mapping[str, route_v3.RouteConfiguration]


class EnvoyFiles:
    """The configuration files of one Envoy.

    Parameters
    ----------
    folder : XdsFolder
        Folder of the files.
    access_log : str
        Path of Envoy's access log; empty for none.
    envoy : Path, optional
        The Envoy executable that validates a configuration before it is used. None if only a container has one: Envoy
        then rejects an invalid configuration when it reads it.
    traces : bool
        Whether Envoy traces every request. The bootstrap sets the destination of the spans.
    envoy_folder : XdsFolder, optional
        The folder's path from Envoy's view, if it differs from `folder`, as in a container.
    """

    def __init__(
        self,
        folder: XdsFolder,
        access_log: str,
        envoy: Path | None,
        *,
        traces: bool = False,
        envoy_folder: XdsFolder | None = None,
    ) -> None:
        self.folder = folder
        self._envoy_folder = envoy_folder or folder
        self.access_log = access_log
        self.envoy = envoy
        self.traces = traces

    # -- generation ------------------------------------------------------------------------------------------------

    def resources(self, translation: Translation) -> ResourcesByName:
        """Return Envoy's resources for a translation, changed to read files, write an access log and limit requests."""
        endpoints = {one.cluster_name: one for one in translation.endpoints}
        return ResourcesByName(
            {one.name: with_endpoints(one, endpoints) for one in translation.clusters},
            {one.name: self._from_files(one) for one in translation.listeners},
            {one.name: one for one in translation.routes},
        )

    def _from_files(self, listener: listener_v3.Listener) -> listener_v3.Listener:
        changed = listener_v3.Listener()
        changed.CopyFrom(listener)
        for manager in connection_managers(changed):
            with manager as http:
                http.rds.config_source.Clear()
                http.rds.config_source.resource_api_version = core_v3.ApiVersion.V3
                source = http.rds.config_source.path_config_source
                source.path = str(self._envoy_folder.routes(http.rds.route_config_name))
                if self.access_log:
                    http.access_log.append(json_access_log(self.access_log))
                if self.traces:
                    http.tracing.random_sampling.value = 100
                add_limits(http)
        return changed

    def validate(self, resources: ResourcesByName) -> None:
        """Validate resources with Envoy itself, if this machine has it.

        Raises
        ------
        InvalidMesh
            Envoy rejects the resources. The error quotes Envoy's message.
        ComponentFailed
            Envoy could not run the validation.
        """
        if self.envoy is None:
            return
        bootstrap = bootstrap_v3.Bootstrap()
        bootstrap.static_resources.clusters.extend(resources.clusters.values())
        for listener in resources.listeners.values():
            inline = bootstrap.static_resources.listeners.add()
            inline.CopyFrom(listener)
            for manager in connection_managers(inline):
                with manager as http:
                    name = http.rds.route_config_name
                    http.ClearField("rds")
                    http.route_config.CopyFrom(resources.routes[name])
        candidate = self.folder.path / "candidate.json"
        write_atomically(candidate, envoy_api.to_json(bootstrap))
        argv = [str(self.envoy), "--mode", "validate", "--log-level", "error", "--config-path", str(candidate)]
        try:
            done = run(argv, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ComponentFailed(
                f"Envoy could not validate the configuration: {error}.",
                next_step="check this machine with `lab doctor`",
            ) from error
        finally:
            candidate.unlink(missing_ok=True)
        if done.returncode:
            messages = [line.partition("] [")[2] or line for line in (done.stderr + done.stdout).splitlines() if line]
            raise InvalidMesh(
                "Envoy rejected the translated configuration: " + " ".join(messages)[-600:],
                next_step="fix the field that Envoy names; the active configuration is unchanged",
            )

    # -- activation ------------------------------------------------------------------------------------------------

    def write(self, resources: ResourcesByName) -> None:
        """Replace all files without waiting for Envoy, as before its start."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.path.glob("*.json"):
            stale.unlink()
        version = new_version()
        for name, route in resources.routes.items():
            swap(self.folder.routes(name), [route], version)
        swap(self.folder.clusters, resources.clusters.values(), version)
        swap(self.folder.listeners, resources.listeners.values(), version)

    def read(self) -> ResourcesByName:
        """Return the resources in the files. A missing or damaged file counts as empty."""
        routes = [route for path in self.folder.path.glob("routes-*.json") for route in resources_in(path)]
        return ResourcesByName(
            {one.name: one for one in resources_in(self.folder.clusters)},
            {one.name: one for one in resources_in(self.folder.listeners)},
            {one.name: one for one in routes},
        )

    def swap(self, new: ResourcesByName, before: ResourcesByName, admin: EnvoyAdmin) -> None:
        """Replace `before` with `new` in a running Envoy without losing a request. Return once Envoy uses `new`.

        Raises
        ------
        ComponentFailed
            Envoy did not apply the new resources within `ACT_SECONDS`.
        """
        version = new_version()
        removed = [name for name in before.clusters if name not in new.clusters]
        if new.clusters != before.clusters:
            both = {**before.clusters, **new.clusters}
            swap(self.folder.clusters, both.values(), version)
            self._await(lambda: admin.versions().clusters == version and not admin.warming(), "clusters", admin)
        added = [name for name in new.routes if name not in before.routes]
        changed = [name for name, r in new.routes.items() if name in before.routes and r != before.routes[name]]
        for name in (*added, *changed):
            swap(self.folder.routes(name), [new.routes[name]], version)
        if new.listeners != before.listeners:
            swap(self.folder.listeners, new.listeners.values(), version)
            self._await(lambda: admin.versions().listeners == version, "listeners", admin)
        if added or changed:
            self._await(lambda: have_version(admin, (*added, *changed), version), "routes", admin)
        if removed:
            version = new_version()
            swap(self.folder.clusters, new.clusters.values(), version)
            self._await(lambda: admin.versions().clusters == version, "clusters", admin)
        for name in before.routes:
            if name not in new.routes:
                self.folder.routes(name).unlink(missing_ok=True)

    def _await(self, is_applied: Callable[[], bool], what: str, admin: EnvoyAdmin) -> None:
        # If this machine has Envoy, it has validated the configuration. Without it, a rejection by the gateway appears
        # as a timeout, like any other failure.
        if not poll_until(is_applied, ACT_SECONDS, interval=0.005):
            raise ComponentFailed(
                f"Envoy did not apply its new {what} within {ACT_SECONDS:.0f} s.",
                next_step="see `lab logs envoy` for the cause; `lab mesh reset` restores the default configuration",
            )


def have_version(admin: EnvoyAdmin, names: Iterable[str], version: str) -> bool:
    """Report whether Envoy has the given version of every named route configuration."""
    routes = admin.versions().routes
    return all(routes.get(name) == version for name in names)


class _Unpacked:
    """Context manager that unpacks an HTTP connection manager of a listener and packs it again on exit."""

    def __init__(self, packed: Message) -> None:
        self._packed = packed
        self._http = hcm_v3.HttpConnectionManager()

    def __enter__(self) -> hcm_v3.HttpConnectionManager:
        self._packed.Unpack(self._http)
        return self._http

    def __exit__(self, *_: object) -> None:
        self._packed.Pack(self._http, deterministic=True)


def connection_managers(listener: listener_v3.Listener) -> list[_Unpacked]:
    """Return the HTTP connection managers of a listener, each as a Python context manager."""
    return [
        _Unpacked(filter_.typed_config)
        for chain in listener.filter_chains
        for filter_ in chain.filters
        if filter_.typed_config.Is(hcm_v3.HttpConnectionManager.DESCRIPTOR)
    ]


def with_endpoints(
    cluster: cluster_v3.Cluster, endpoints: Mapping[str, endpoint_v3.ClusterLoadAssignment]
) -> cluster_v3.Cluster:
    """Return the cluster with inline endpoints instead of EDS."""
    if cluster.type != cluster_v3.Cluster.EDS:
        return cluster
    changed = cluster_v3.Cluster()
    changed.CopyFrom(cluster)
    service = cluster.eds_cluster_config.service_name or cluster.name
    changed.ClearField("eds_cluster_config")
    changed.type = cluster_v3.Cluster.STATIC
    if service in endpoints:
        changed.load_assignment.CopyFrom(endpoints[service])
    changed.load_assignment.cluster_name = service
    return changed


def json_access_log(path: str) -> accesslog_v3.AccessLog:
    """Return the access log that istiod generates from `lab-stack/istio/mesh.yaml`."""
    settings = file_v3.FileAccessLog(path=path)
    settings.log_format.json_format.update(log_format())
    log = accesslog_v3.AccessLog(name="envoy.access_loggers.file")
    log.typed_config.Pack(settings, deterministic=True)
    return log


def new_version() -> str:
    """Return a version that no earlier configuration has."""
    return str(time.time_ns())


def resources_in(path: Path) -> list[Any]:
    """Return the resources in a file, or none if the file is missing or damaged."""
    try:
        response = envoy_api.parse(path.read_text(encoding="utf-8"), discovery_v3.DiscoveryResponse())
    except (OSError, envoy_api.Invalid):
        return []
    found = []
    for packed in response.resources:
        kind = next(
            kind
            for kind in (cluster_v3.Cluster, listener_v3.Listener, route_v3.RouteConfiguration)
            if packed.Is(kind.DESCRIPTOR)
        )
        resource = kind()
        packed.Unpack(resource)
        found.append(resource)
    return found


def swap(path: Path, resources: Iterable[Message] | Sequence[Message], version: str) -> None:
    """Write resources to a file, and replace the previous file atomically."""
    response = discovery_v3.DiscoveryResponse(version_info=version)
    for resource in resources:
        response.resources.add().Pack(resource, deterministic=True)
    write_atomically(path, envoy_api.to_json(response))
