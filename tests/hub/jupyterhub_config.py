"""The hub that the tests run: the settings that the chart's hub derives from the values, with other addresses.

`tests.hub.running` describes the hub in a JSON file, whose path is in the environment variable HUB.
"""

import json
import os
import sys
from pathlib import Path

given = json.loads(Path(os.environ["HUB"]).read_text(encoding="utf-8"))
sys.path.insert(0, given["root"])

from tests.hub.chart import settings, values  # noqa: E402

c = get_config()  # type: ignore[name-defined]  # noqa: F821
for name, traits in settings(values()).items():
    for trait, value in traits.items():
        setattr(c[name], trait, value)
for name, traits in given["traits"].items():
    for trait, value in traits.items():
        setattr(c[name], trait, value)
for service in c.JupyterHub.services:
    if service["name"] == "progress":
        service |= {"url": given["progress"], "command": given["progress_command"]}
c.JupyterHub.services.append({"name": "test", "api_token": given["token"]})
c.JupyterHub.load_roles.append(
    {
        "name": "test",
        "services": ["test"],
        "scopes": ["admin:users", "admin:servers", "access:servers", "tokens", "access:services"],
    }
)
