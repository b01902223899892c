"""The cluster that the lab is attached to, for notebook 14 and its exercises."""

from __future__ import annotations

import json
import shlex
from typing import Any

from labkit.errors import KitError
from labstack import Lab
from labstack.arguments import checked
from labstack.backends.choice import requested_mode
from labstack.backends.kubernetes.attachment import Attachment
from labstack.backends.kubernetes.kubectl import Kubectl
from labstack.errors import LabError
from labstack.lab import access_of

SKIPPED = "Skipped: no cluster is attached (LAB_MODE=kubernetes)."
"""What each cell of a notebook about a cluster prints without a cluster."""

TO_ATTACH = (
    "This notebook needs an installation on a Kubernetes cluster. Without one, its cells only print that they are\n"
    "skipped, and no lab is started. To run them: install the chart (docs/kubernetes.md), end a lab of another\n"
    "mode with `lab down` in a terminal, start JupyterLab with LAB_MODE=kubernetes, and run all cells."
)
"""How to get a cluster for a notebook."""

RIGHTS = {
    "evict pods": ("create", "pods", "--subresource=eviction"),
    "cordon nodes": ("patch", "nodes"),
    "run programs in pods": ("create", "pods", "--subresource=exec"),
}
"""Rights that the lessons need, and of which a user may lack some, as `kubectl auth can-i` takes them."""


def is_on_cluster(lab: Lab) -> bool:
    """Return whether the lab is attached to a cluster, or would attach to one when it starts."""
    access = access_of(lab)
    state = access.state()
    return (state.mode if state.is_up else requested_mode(access.wanted_mode)) == "kubernetes"


def kubectl_of(lab: Lab) -> Kubectl:
    """Return kubectl for the namespace of the installation.

    Raises
    ------
    KitError
        The lab is not attached to a cluster.
    """
    attachment = Attachment.read(access_of(lab).paths) if is_on_cluster(lab) else None
    if attachment is None:
        raise KitError(
            "No cluster is attached.", next_step="set LAB_MODE=kubernetes and run `lab up` (docs/kubernetes.md)"
        )
    return Kubectl(attachment.cluster)


@checked
def kubectl_for(lab: Lab) -> str:
    """Return the kubectl command of the installation, with its namespace and context, for a shell.

    Raises
    ------
    KitError
        The lab is not attached to a cluster.

    Examples
    --------
    >>> kubectl = kubectl_for(lab)
    >>> !{kubectl} get pods
    """
    _, *options = kubectl_of(lab).command
    return shlex.join(["kubectl", *options])


@checked
def preflight(lab: Lab) -> dict[str, Any]:
    """Return what the cluster has for the lessons: nodes, instances of each database, a mesh, and the learner's rights.

    Raises
    ------
    KitError
        The lab is not attached to a cluster.
    """
    kubectl = kubectl_of(lab)
    clusters = kubectl.items("clusters.postgresql.cnpg.io")
    try:
        nodes: object = sum(not node["spec"].get("unschedulable") for node in kubectl.items("nodes"))
    except LabError as error:
        nodes = error.problem
    return {
        "nodes that accept pods": nodes,
        "instances of each database": min((cluster["spec"]["instances"] for cluster in clusters), default=0),
        "mesh": "envoy" in lab.status(memory=False).components,
        **{f"you may {what}": _may(kubectl, words) for what, words in RIGHTS.items()},
    }


def _may(kubectl: Kubectl, words: tuple[str, ...]) -> bool:
    try:
        return kubectl.run("auth", "can-i", *words).strip().endswith("yes")
    except LabError:  # kubectl ends with status 1 if the answer is no
        return False


@checked
def on_standby(lab: Lab, database: str, query: str) -> list[str]:
    """Return the rows of a query on a standby of a database, as text; no rows if there is no standby.

    Parameters
    ----------
    lab : Lab
        The attached lab.
    database : str
        The component, such as ``order-db``.
    query : str
        SQL that returns one column.
    """
    kubectl = kubectl_of(lab)
    pods = kubectl.items("pods", f"--selector=cnpg.io/cluster={database},cnpg.io/instanceRole=replica")
    if not pods:
        return []
    psql = ("psql", "-At", f"--dbname={database.removesuffix('-db')}", f"--command={query}")
    return kubectl.run("exec", pods[0]["metadata"]["name"], "--container=postgres", "--", *psql).splitlines()


def apply(kubectl: Kubectl, document: dict[str, Any]) -> None:
    """Create or change an object.

    Raises
    ------
    LabError
        The API server rejects it.
    """
    kubectl.run(
        "apply", "--server-side", "--force-conflicts", "--field-manager=lesson", "-f", "-", text=json.dumps(document)
    )
