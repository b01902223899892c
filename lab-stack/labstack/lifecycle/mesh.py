"""The mesh of a lab: inspect and change the gateway's configuration while clients send requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstack.arguments import Count, checked_class
from labstack.backends.access import LabAccess
from labstack.backends.base import Backend
from labstack.backends.components import ControlPlane, Gateway
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.errors import LabError, NotRunning, one_of
from labstack.gateway import describe
from labstack.gateway.access_log import parse_lines
from labstack.gateway.addresses import service_entries
from labstack.gateway.choice import NAMES
from labstack.gateway.listening import require_free_ports, require_loopback
from labstack.gateway.store import ConfigurationStore, dump, key, merged, own_configuration
from labstack.istio.check import require_valid
from labstack.istio.documents import Document, Problem, resources


@dataclass(frozen=True)
class Applied:
    """The result of an apply.

    Attributes
    ----------
    changes : dict
        ``created``, ``configured`` or ``unchanged``, by ``Kind/name``.
    warnings : list of Problem
        Valid configuration that is probably a mistake.
    control_plane : str
        Display name of the control plane that applied the changes.
    """

    changes: dict[str, str]
    warnings: list[Problem]
    control_plane: str

    def __repr__(self) -> str:
        lines = [f"{name} {change}" for name, change in self.changes.items()]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


@checked_class
class Mesh:
    """The gateway's configuration.

    Parameters
    ----------
    access : LabAccess
        Access to the lab to which the gateway belongs.
    """

    def __init__(self, access: LabAccess) -> None:
        self._access = access

    @property
    def _store(self) -> ConfigurationStore:
        return self._access.backend().mesh_store()

    @property
    def control_plane(self) -> str:
        """The display name of the gateway's control plane."""
        return _control_plane(self._access.backend())

    # -- changes ---------------------------------------------------------------------------------------------------

    def apply(self, what: str | Path, *, force: bool = False) -> Applied:
        """Apply Istio resources. Each replaces the resource of the same kind, namespace and name; others stay in force.

        Parameters
        ----------
        what : str or Path
            YAML text, or the path of a YAML file; ``Path("-")`` is the standard input.
        force : bool
            Apply resources that refer to a missing host, subset or gateway, to see the effect.

        Returns
        -------
        Applied
            The changes. The method returns once the gateway uses them.

        Raises
        ------
        InvalidYaml, InvalidMesh, Unsupported
            The resources are invalid. Each problem has its file, line and field. The previous configuration stays in
            force.
        NotRunning
            The gateway or its control plane is not running.
        """
        new = resources(what)
        with self._access.changing() as backend:
            before = self._store.read()
            known = [*service_entries(backend.addresses()), *before]
            warnings = require_valid(new, known, force=force)
            after = merged(before, new)
            self._put(backend, after, before)
            self._store.write(after)
        previous = {key(document): document.data for document in before}
        changes = {f"{one.kind}/{one.name}": _change(one, previous.get(key(one))) for one in new}
        return Applied(changes, warnings, _control_plane(backend))

    def reset(self) -> None:
        """Restore the lab's own configuration, as it is at the start of the course."""
        with self._access.changing() as backend:
            self._put(backend, own_configuration(), self._store.read())
            self._store.delete()

    def refresh(self) -> None:
        """Update the gateway after services were added or removed, if it and its control plane are running."""
        backend = self._access.backend()
        if _missing(backend):
            return
        documents = self._store.read()
        self._put(backend, documents, documents)

    def _put(self, backend: Backend, after: Sequence[Document], before: Sequence[Document]) -> None:
        if missing := _missing(backend):
            raise NotRunning(
                f"The gateway's configuration can't be changed. Not running: {', '.join(missing)}.",
                next_step=f"run `lab start {missing[0]}`",
            )
        addresses = backend.addresses()
        new, previous = backend.for_gateway(after), backend.for_gateway(before)
        require_loopback(new, bound_here=bool(addresses.bind))
        require_free_ports(new, previous, bound_here=bool(addresses.bind))
        admin = EnvoyAdmin(backend.gateway.admin_url)
        steering = backend.steering()
        steering.validate(new)
        snapshot = admin.configuration()
        steering.put(new, previous)
        describe.save(self._access.paths, snapshot)

    def _admin(self) -> EnvoyAdmin:
        return EnvoyAdmin(self._access.backend().gateway.admin_url)

    # -- inspection ------------------------------------------------------------------------------------------------

    def documents(self) -> list[Document]:
        """Return the Istio resources in force, as written."""
        return self._store.read()

    def show(self, name: str | None = None) -> str:
        """Return the resources in force as YAML: all of them, or one by ``Kind/name`` (or by its name alone).

        Raises
        ------
        LabError
            No resource has that name. The error lists the existing names.
        """
        documents = self._store.read()
        if name is None:
            return dump(documents)
        wanted = [one for one in documents if name.lower() in (one.name, f"{one.kind}/{one.name}".lower())]
        if not wanted:
            known = [f"{one.kind}/{one.name}" for one in documents]
            raise LabError(f"Unknown resource {name!r}: the mesh does not use it.", next_step=one_of(name, known))
        return dump(wanted)

    def routes(self) -> list[describe.Route]:
        """Return Envoy's current routes, in the order in which it tries them."""
        return describe.routes(self._admin().configuration())

    def diff(self) -> str:
        """Return the effect of the last change on Envoy's configuration as a unified diff.

        The diff covers clusters, endpoints, listeners and routes. It is empty if the last change had no effect. Before
        the first change, it shows the whole configuration.
        """
        return describe.difference(describe.saved(self._access.paths), self._admin().configuration())

    def configuration(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return Envoy's configuration: clusters, endpoints, listeners and routes, each by name."""
        return self._admin().configuration()

    def statistics(self, pattern: str = "") -> dict[str, int]:
        """Return Envoy's counters and gauges whose names match a regular expression."""
        return self._admin().statistics(pattern)

    def access_log(self, lines: Count = 200) -> list[dict[str, Any]]:
        """Return the gateway's last requests, oldest first. `labstack.gateway.access_log.FLAGS` explains the flags."""
        return parse_lines(self._access.backend().gateway.access_log(lines))

    def __repr__(self) -> str:
        kinds = ", ".join(f"{one.kind}/{one.name}" for one in self._store.read())
        defined = "the lab's own configuration" if self._store.is_own else "changed by `apply`"
        return f"Mesh configured by {self.control_plane}, {defined}: {kinds}"


def _control_plane(backend: Backend) -> str:
    return NAMES[backend.state.control_plane]


def _missing(backend: Backend) -> list[str]:
    """Return which of the gateway and its control plane do not run."""
    needed = [Gateway.name, *([ControlPlane.name] if backend.control_plane else [])]
    return [name for name in needed if backend.inspect(name).state != "running"]


def _change(document: Document, before: dict[str, Any] | None) -> str:
    if before is None:
        return "created"
    return "unchanged" if before.get("spec") == document.data.get("spec") else "configured"
