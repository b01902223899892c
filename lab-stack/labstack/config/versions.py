"""The versions file ``lab-stack/versions.toml``, read once."""

from __future__ import annotations

import tomllib
from typing import Any

from labstack.config.paths import CONFIG

VERSIONS: dict[str, Any] = tomllib.loads((CONFIG / "versions.toml").read_text(encoding="utf-8"))
