"""What runs in the hub's environment: `python -m tests.hub.inside` prints what the values mean there, as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from tests.hub.chart import Settings, documented, settings, values

KUBECONFIG = {
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
}
"""KubeSpawner reads one before it makes a pod, even if it contacts no cluster."""


def unknown_traits(found: Settings) -> list[str]:
    """Return the settings for which the installed JupyterHub and KubeSpawner have no trait."""
    from jupyterhub.app import JupyterHub
    from jupyterhub.auth import Authenticator
    from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
    from jupyterhub.services.service import Service
    from jupyterhub.spawner import Spawner
    from kubespawner import KubeSpawner
    from nativeauthenticator import NativeAuthenticator

    known = (JupyterHub, Authenticator, SharedPasswordAuthenticator, NativeAuthenticator, Spawner, KubeSpawner)
    traits = {one.__name__: set(one.class_traits(config=True)) for one in known}
    wrong = [f"{name}.{trait}" for name, given in found.items() for trait in given if trait not in traits.get(name, ())]
    of_service = set(Service.class_traits())
    return wrong + [
        f"Service.{key}" for one in found["JupyterHub"].get("services", []) for key in one if key not in of_service
    ]


def pod(found: Settings) -> dict[str, Any]:
    """Return the pod that KubeSpawner makes for a learner."""
    from jupyterhub.objects import Hub, Server
    from jupyterhub.orm import Spawner
    from kubernetes_asyncio.client import ApiClient
    from kubespawner import KubeSpawner
    from traitlets.config import Config

    class Learner:
        """What KubeSpawner reads of a user in JupyterHub's database."""

        name = escaped_name = "ada"
        id, url, server, groups = 1, "/user/ada/", Server(), ()
        settings: ClassVar[dict[str, Any]] = {}

    async def made() -> dict[str, Any]:
        hub = Hub(connect_url="http://hub:8081", base_url="/hub/")
        spawner = KubeSpawner(
            config=Config(found), hub=hub, user=Learner(), orm_spawner=Spawner(name=""), api_token="none"
        )
        manifest: dict[str, Any] = ApiClient().sanitize_for_serialization(await spawner.get_pod_manifest())
        return manifest

    return asyncio.run(made())


if __name__ == "__main__":
    found = settings(values())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KUBECONFIG"] = str(Path(folder) / "config")
        Path(folder, "config").write_text(json.dumps(KUBECONFIG))
        unknown = [
            *unknown_traits(found),
            *(name for one in documented() for name in unknown_traits(one["hub"]["config"])),
        ]
        json.dump({"unknown": unknown, "pod": pod(found)}, sys.stdout)
