"""The mesh configuration on a cluster: Istio's objects in the lab's namespace, which the cluster's istiod applies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from labstack.backends.kubernetes.kubectl import Kubectl, KubectlFailed, not_attached
from labstack.clients.envoy_admin import EnvoyAdmin
from labstack.errors import LabError
from labstack.gateway.steering import steps
from labstack.gateway.store import Key, key, own_configuration
from labstack.istio.documents import Document
from labstack.istio.errors import InvalidMesh
from labstack.waiting import poll_until

GROUP = "networking.istio.io"
KINDS = {
    "DestinationRule": "destinationrules",
    "Gateway": "gateways",
    "ServiceEntry": "serviceentries",
    "VirtualService": "virtualservices",
}
"""Resource by kind, for the kinds that the lab manages."""

SYSTEM_METADATA = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "namespace")
"""Metadata that the API server sets."""

CHANGE_SECONDS = 3.0
"""Seconds after which a change that Envoy has not received does not concern this gateway. istiod waits 0.1 s for more
changes, and sends a change in milliseconds."""
QUIET_SECONDS = 0.4
"""Seconds without another change after which Envoy has received all parts of a change."""
LONGEST_SECONDS = 20.0


class ClusterStore:
    """The lab's Istio objects on a cluster, in the form that the lab uses: the namespace ``default`` is the lab's.

    Parameters
    ----------
    kubectl : Kubectl, optional
        Access to the namespace; None if the lab is not attached to a cluster.
    """

    def __init__(self, kubectl: Kubectl | None) -> None:
        self._kubectl = kubectl

    def objects(self) -> dict[Key, dict[str, Any]]:
        """Return the objects as they are on the cluster, by key.

        Raises
        ------
        NotRunning
            The lab is not attached to a cluster.
        """
        if self._kubectl is None:
            raise not_attached()
        resources = ",".join(f"{plural}.{GROUP}" for plural in KINDS.values())
        return {key(_document(item)): item for item in self._kubectl.items(resources)}

    def read(self) -> list[Document]:
        """Return the documents in force."""
        return [_document(item) for item in self.objects().values()]

    @property
    def is_own(self) -> bool:
        """Whether the lab's own configuration is in force without changes."""
        return _specs(self.read()) == _specs(own_configuration())

    def write(self, documents: Sequence[Document]) -> None:
        """Do nothing: the objects on the cluster are the configuration in force."""

    def delete(self) -> None:
        """Do nothing: `lab mesh reset` replaces the objects on the cluster."""


class ClusterSteering:
    """The cluster's istiod, which applies the objects to the gateway.

    Parameters
    ----------
    kubectl : Kubectl
        Access to the namespace.
    admin : EnvoyAdmin
        Administration interface of the gateway.
    """

    def __init__(self, kubectl: Kubectl, admin: EnvoyAdmin) -> None:
        self._kubectl = kubectl
        self._admin = admin

    def validate(self, new: Sequence[Document]) -> None:
        """Check that the documents belong to the lab's namespace; istiod's webhook validates the rest.

        Raises
        ------
        InvalidMesh
            A document has another kind or another namespace than the lab's.
        """
        namespaces = ("default", self._kubectl.cluster.namespace)
        wrong = [
            one.problem(("kind",), f"the lab does not manage objects of the kind {one.kind}")
            if one.kind not in KINDS
            else one.problem(("metadata", "namespace"), f"the lab is in the namespace {namespaces[1]}")
            for one in new
            if one.kind not in KINDS or one.namespace not in namespaces
        ]
        if wrong:
            raise InvalidMesh(
                "The lab changes only its own objects on the cluster.",
                problems=wrong,
                next_step="leave `namespace` out, or use kubectl",
            )

    def put(self, new: Sequence[Document], before: Sequence[Document]) -> None:
        """Replace `before` with `new`, and return once the gateway uses it. On failure, `before` stays in force.

        If istiod sends no change within `CHANGE_SECONDS`, the change does not concern this gateway.
        """
        new, rejected = [_in_lab(one) for one in new], self._admin.versions().rejected
        try:
            for step in steps(new, before):
                self._put(step)
        except BaseException as error:  # Ctrl-C, too, must not leave a step in between in effect
            with suppress(LabError):  # the first error is the cause
                self._restore(before)
            if not isinstance(error, KubectlFailed):
                raise
            raise InvalidMesh(
                f"The cluster rejected the configuration: {error.reason}",
                next_step="fix the problem that it names; the active configuration is unchanged",
            ) from None
        if self._admin.versions().rejected > rejected:
            self._restore(before)
            raise InvalidMesh(
                "Envoy rejects the configuration.",
                next_step="see `lab logs envoy` for the reason; the active configuration is unchanged",
            )

    def _put(self, new: Sequence[Document]) -> None:
        configuration = self._routing()
        if self._replace(ClusterStore(self._kubectl).objects(), _specs(new)):
            self._await_change(configuration)

    def _replace(self, objects: dict[Key, dict[str, Any]], wanted: dict[Key, Any]) -> bool:
        """Create, replace and delete objects until their specs are the wanted ones; return whether any changed."""
        # The resource version of an object makes the API server reject a change since it was read.
        changed = [{**item, "spec": wanted[one]} for one, item in objects.items() if one in wanted]
        changed = [item for item in changed if item["spec"] != objects[key(_document(item))].get("spec")]
        created = [_created(one, spec) for one, spec in wanted.items() if one not in objects]
        deleted = [f"{KINDS[one[0]]}.{GROUP}/{one[2]}" for one in objects if one not in wanted]
        if changed:
            self._kubectl.run("replace", "--filename=-", text=_list(changed))
        if created:
            self._kubectl.run("create", "--filename=-", text=_list(created))
        if deleted:
            self._kubectl.run("delete", *deleted)
        return bool(changed or created or deleted)

    def _restore(self, before: Sequence[Document]) -> None:
        self._replace(ClusterStore(self._kubectl).objects(), _specs(before))

    def _routing(self) -> dict[str, Any]:
        """Return Envoy's configuration without the endpoints, which change with every pod."""
        return {name: part for name, part in self._admin.configuration().items() if name != "endpoints"}

    def _await_change(self, before: dict[str, Any]) -> None:
        if not poll_until(lambda: self._routing() != before, CHANGE_SECONDS, interval=0.1):
            return
        last, since = self._routing(), time.monotonic()

        def is_quiet() -> bool:
            nonlocal last, since
            now = self._routing()
            if now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since > QUIET_SECONDS and not self._admin.warming()

        poll_until(is_quiet, LONGEST_SECONDS, interval=0.1)


def _specs(documents: Iterable[Document]) -> dict[Key, Any]:
    """Return the specs of documents, with the lab's namespace left out of the key."""
    return {(one.kind, "default", one.name): one.data.get("spec") for one in documents}


def _in_lab(document: Document) -> Document:
    """Return a document of the lab's namespace as `ClusterStore` names it: in ``default``."""
    metadata = {name: value for name, value in document.data["metadata"].items() if name != "namespace"}
    return replace(document, data={**document.data, "metadata": metadata})


def _document(item: dict[str, Any]) -> Document:
    metadata = {name: value for name, value in item["metadata"].items() if name not in SYSTEM_METADATA}
    labels = {n: v for n, v in metadata.pop("labels", {}).items() if not n.startswith("app.kubernetes.io/")}
    metadata.pop("annotations", None)
    data = {
        "apiVersion": item["apiVersion"],
        "kind": item["kind"],
        "metadata": {**metadata, **({"labels": labels} if labels else {})},
        "spec": item.get("spec", {}),
    }
    return Document("<cluster>", data, {(): 1})


def _created(one: Key, spec: Any) -> dict[str, Any]:
    kind, _, name = one
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _list(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
