"""Image digests from registries, recorded in the user's configuration and pinned from then on.

The digests in ``lab-stack/versions.toml`` take precedence; this file has those of the other images.
"""

from __future__ import annotations

import json
from pathlib import Path

import platformdirs
from filelock import FileLock

from labstack.config.paths import writable_folder, write_atomically
from labstack.errors import LabError


def digests_file() -> Path:
    """Return the path of the file; ``XDG_CONFIG_HOME`` moves it."""
    return Path(platformdirs.user_config_path("saga-lab")) / "images.json"


def known_digest(image: str) -> str:
    """Return the recorded digest of an image (repository and tag); empty if there is none.

    Raises
    ------
    LabError
        The file is damaged. It is not ignored, because another image could then replace the recorded one.
    """
    return _read().get(image, "")


def remember_digests(digests: dict[str, str]) -> Path:
    """Record digests by image, and return the path of the file."""
    file = digests_file()
    writable_folder(file.parent)
    with FileLock(file.with_suffix(".lock")):
        write_atomically(file, json.dumps({**_read(), **digests}, indent=1, sort_keys=True) + "\n")
    return file


def _read() -> dict[str, str]:
    file = digests_file()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(one, str) for one in found.values()):
            return found
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass
    raise LabError(
        f"{file} is unreadable or damaged.",
        next_step="fix or remove the file; then `lab images lock` reads the digests from the registries again",
    )
