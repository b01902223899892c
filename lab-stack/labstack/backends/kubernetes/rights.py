"""The rights that the lab needs on a cluster: `lab doctor` checks them, and `deploy/lab-user.yaml` grants them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labstack.backends.kubernetes import components
from labstack.backends.kubernetes.attachment import NODE_POOL, Attachment
from labstack.backends.kubernetes.kubectl import Kubectl
from labstack.backends.kubernetes.mesh import GROUP, KINDS
from labstack.backends.kubernetes.workloads import Brokers
from labstack.config.services import ServiceEntry


@dataclass(frozen=True)
class Right:
    """One right in the lab's namespace.

    Attributes
    ----------
    verb : str
        Verb of the Kubernetes API, such as ``list``.
    resource : str
        Resource in kubectl's spelling: ``pods``, ``pods/log`` or ``deployments.apps``.
    use : str
        What the lab needs it for.
    """

    verb: str
    resource: str
    use: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} ({self.use})"

    @property
    def api_resource(self) -> tuple[str, str]:
        """Group of the API, and resource, with the subresource if there is one: what a Role names."""
        resource, _, group = self.resource.partition(".")
        return group, resource


def needed(attachment: Attachment, services: tuple[ServiceEntry, ...]) -> list[Right]:
    """Return the rights that the lab's commands need on an installation.

    Parameters
    ----------
    attachment : Attachment
        The installation.
    services : tuple of ServiceEntry
        The services.
    """
    rights = [
        Right("list", "deployments.apps", "lab up"),
        Right("list", "statefulsets.apps", "lab up"),
        Right("get", "secrets", "lab up"),
        Right("get", "pods", "lab up"),
        Right("list", "pods", "lab up"),
        Right("watch", "pods", "lab up"),
        Right("create", "pods/portforward", "lab up"),
        Right("get", "pods/log", "lab logs"),
        Right("delete", "pods", "lab kill"),
        Right("create", "pods/exec", "lab pause"),
        Right("patch", "pods", "lab pause"),
    ]
    if attachment.has_strimzi:
        rights.append(Right("get", NODE_POOL, "lab up"))
    every = components.every(components.Context({}, attachment, lambda name, lines: ""), services)
    workloads = [one.workload for one in every]
    rights += [Right("list", resource, "lab up") for resource in sorted({one.resource for one in workloads})]
    for resource in sorted({one.resource for one in workloads if not isinstance(one, Brokers)}):
        rights += [Right(verb, resource, "lab stop, start, switch") for verb in ("get", "patch")]
    if attachment.gateway:
        resources = [f"{plural}.{GROUP}" for plural in KINDS.values()]
        uses = {"list": "lab mesh show", "get": "lab mesh apply", "create": "lab mesh apply"}
        uses |= {"update": "lab mesh apply", "delete": "lab mesh reset"}
        rights += [Right(verb, resource, use) for resource in resources for verb, use in uses.items()]
    found: dict[tuple[str, str], Right] = {}
    for one in rights:
        found.setdefault((one.verb, one.resource), one)
    return list(found.values())


def missing(kubectl: Kubectl, rights: Iterable[Right]) -> list[Right]:
    """Return the rights that the user does not have in the namespace.

    Parameters
    ----------
    kubectl : Kubectl
        Access to the namespace.
    rights : iterable of Right
        The rights to check.

    Raises
    ------
    ClusterUnavailable
        The cluster does not answer.

    Notes
    -----
    One call of kubectl creates a ``SelfSubjectAccessReview`` for each right. Kubernetes stores none of them.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
    """
    rights = list(rights)
    reviews = [_review(right, kubectl.cluster.namespace) for right in rights]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = _documents(kubectl.run("create", "--filename=-", "--output=json", text=text))
    return [right for right, answer in zip(rights, answers, strict=True) if not answer["status"].get("allowed")]


def _review(right: Right, namespace: str) -> dict[str, Any]:
    group, path = right.api_resource
    resource, _, subresource = path.partition("/")
    attributes = {"group": group, "resource": resource, "subresource": subresource}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": right.verb, "namespace": namespace, **attributes}},
    }


def _documents(text: str) -> list[dict[str, Any]]:
    """Return the JSON objects that kubectl writes one after another."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        one, end = decoder.raw_decode(text)
        found.append(one)
        text = text[end:]
    return found
