"""The chart's values as the hub of the chart applies them to JupyterHub and KubeSpawner.

The chart zero-to-jupyterhub comes from no package registry, so this module repeats the part of it that the values of
`deploy/hub/values.yaml` use: the traits that the hub sets from each key, and the keys that only templates read.
Source: zero-to-jupyterhub's documentation, "Configuration Reference", and its file ``jupyterhub_config.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
VALUES = ROOT / "deploy" / "hub" / "values.yaml"

TRAITS = {
    "hub.activeServerLimit": "JupyterHub.active_server_limit",
    "hub.concurrentSpawnLimit": "JupyterHub.concurrent_spawn_limit",
    "singleuser.allowPrivilegeEscalation": "KubeSpawner.allow_privilege_escalation",
    "singleuser.cmd": "Spawner.cmd",
    "singleuser.cpu.guarantee": "KubeSpawner.cpu_guarantee",
    "singleuser.cpu.limit": "KubeSpawner.cpu_limit",
    "singleuser.defaultUrl": "Spawner.default_url",
    "singleuser.extraEnv": "KubeSpawner.environment",
    "singleuser.fsGid": "KubeSpawner.fs_gid",
    "singleuser.image.pullPolicy": "KubeSpawner.image_pull_policy",
    "singleuser.lifecycleHooks": "KubeSpawner.lifecycle_hooks",
    "singleuser.memory.guarantee": "KubeSpawner.mem_guarantee",
    "singleuser.memory.limit": "KubeSpawner.mem_limit",
    "singleuser.startTimeout": "KubeSpawner.start_timeout",
    "singleuser.storage.capacity": "KubeSpawner.storage_capacity",
    "singleuser.uid": "KubeSpawner.uid",
}
"""The trait that the hub sets from a key."""

ELSEWHERE = (
    *("cull.adminUsers", "cull.every", "cull.maxAge", "cull.timeout"),
    *("hub.extraFiles.*.mountPath", "hub.networkPolicy.ingress", "hub.service.extraPorts"),
    *("prePuller.hook.enabled", "proxy.chp.networkPolicy.egress"),
    *("singleuser.cloudMetadata.blockWithIptables", "singleuser.networkPolicy.egress"),
    *(
        f"singleuser.networkPolicy.egressAllowRules.{rule}"
        for rule in ("cloudMetadataServer", "nonPrivateIPs", "privateIPs")
    ),
    *("singleuser.image.name", "singleuser.image.tag", "singleuser.storage.homeMountPath"),
)
"""The other keys of the chart that the values use. `*` stands for a name that the values choose."""

Settings = dict[str, dict[str, Any]]


def values() -> dict[str, Any]:
    """Return the values of the file."""
    found: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    return found


def documented() -> list[dict[str, Any]]:
    """Return the values that the page shows as alternatives."""
    blocks = re.findall(r"```yaml\n(.+?)```", (ROOT / "docs" / "hub.md").read_text(encoding="utf-8"), re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def settings(given: Mapping[str, Any]) -> Settings:
    """Return the traits that the hub sets, by class.

    Raises
    ------
    KeyError
        The chart has no such key; the message is its path.
    """
    found: Settings = {"KubeSpawner": {"pvc_name_template": "claim-{user_server}", "storage_pvc_ensure": True}}
    for path, value in leaves(given):
        words = path.split(".")
        if path.startswith("hub.config."):
            found.setdefault(words[2], {})[words[3]] = value
        elif path.startswith("hub.services."):
            continue
        elif path in TRAITS:
            name, _, trait = TRAITS[path].partition(".")
            found.setdefault(name, {})[trait] = value
        elif not (path in ELSEWHERE or f"{'.'.join(words[:2])}.*.{words[-1]}" in ELSEWHERE or words[1] == "loadRoles"):
            raise KeyError(path)
    user = given["singleuser"]
    home = {"name": "home", "persistentVolumeClaim": {"claimName": "claim-{user_server}"}}
    found["KubeSpawner"] |= {
        "image": f"{user['image']['name']}:{user['image']['tag']}",
        "volumes": [home],
        "volume_mounts": [{"name": "home", "mountPath": user["storage"]["homeMountPath"]}],
    }
    found["JupyterHub"] |= {
        "tornado_settings": {"slow_spawn_timeout": 0},
        "services": [{"name": name, **service} for name, service in given["hub"]["services"].items()],
        "load_roles": [{"name": name, **role} for name, role in given["hub"]["loadRoles"].items()],
    }
    return found


def leaves(given: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its path. A mapping that becomes one trait is one value."""
    for name, value in given.items():
        here = f"{path}.{name}".removeprefix(".")
        is_trait = here in TRAITS or (here.startswith("hub.config.") and here.count(".") == 3)
        if isinstance(value, Mapping) and not is_trait:
            yield from leaves(value, here)
        else:
            yield here, value
