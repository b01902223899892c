"""The digests of images that a registry was once asked for: kept in the user's configuration, and held to from then on.

The digests in ``lab-stack/versions.toml`` come first; this file has those of the other images.
"""

from __future__ import annotations

import json
from pathlib import Path

import platformdirs
from filelock import FileLock

from labstack.errors import LabError
from labstack.paths import writable_folder, write_atomically


def digests_file() -> Path:
    """Return the file, which ``XDG_CONFIG_HOME`` moves."""
    return Path(platformdirs.user_config_path("saga-lab")) / "images.json"


def known_digest(image: str) -> str:
    """Return the digest of an image (repository and tag), empty where no registry was asked for it.

    Raises
    ------
    LabError
        The file is damaged. It is not ignored, since then another image could take the place of the recorded one.
    """
    return _read().get(image, "")


def remember_digests(digests: dict[str, str]) -> Path:
    """Record digests by image, and return the file."""
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
        f"{file} is not readable, or damaged.",
        next_step="mend or remove it; then `lab images lock` asks the registries anew",
    )
