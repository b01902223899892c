"""The folders of a lab: state (data, logs, state file) and cache (programs), after the XDG base directories.

Each ``HOME`` has its own labs, and so does each ``LAB_NAME`` under the same ``HOME``.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from labstack.errors import LabError, StorageError

_PACKAGE = Path(__file__).resolve().parent.parent
TREE = _PACKAGE / "tree" if (_PACKAGE / "tree").is_dir() else _PACKAGE.parents[1]
"""The folder of files outside the packages (configuration, datasets, notebooks, documents), laid out as in the
repository. In a checkout it is the repository itself; a wheel contains it as ``labstack/tree``."""

CONFIG = TREE / "lab-stack"
"""The folder that contains one configuration folder per component."""

DATASETS = TREE / "datasets"


@dataclass(frozen=True)
class LabPaths:
    """The folders and files of one lab.

    Parameters
    ----------
    state : Path
        Folder of this lab's data, logs and state file.
    cache : Path
        Folder of downloaded programs, shared by all labs of one ``HOME``.
    """

    state: Path
    cache: Path

    @classmethod
    def of_user(cls, name: str | None = None) -> LabPaths:
        """Return the paths of the user's lab called `name` (default: ``LAB_NAME``, else ``default``).

        Raises
        ------
        LabError
            The name is longer than 40 characters, or contains others than letters, digits, ``-`` and ``_``.
        """
        name = name or os.environ.get("LAB_NAME") or "default"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
            raise LabError(
                f"A lab can't be called {name!r}.",
                next_step="set LAB_NAME to at most 40 letters, digits, '-' and '_', or unset it",
            )
        return cls(
            state=Path(platformdirs.user_state_path("saga-lab")) / name,
            cache=Path(platformdirs.user_cache_path("saga-lab")),
        )

    @property
    def state_file(self) -> Path:
        return self.state / "state.json"

    @property
    def lock_file(self) -> Path:
        return self.state / "lab.lock"

    @property
    def scenario_file(self) -> Path:
        """File with the state of the current scenario."""
        return self.state / "scenario.json"

    def data(self, component: str) -> Path:
        return self.state / "data" / component

    def config(self, component: str) -> Path:
        return self.state / "config" / component

    def log(self, component: str) -> Path:
        return self.state / "logs" / f"{component}.log"

    def spans(self, component: str) -> Path:
        return self.state / "data" / "spans" / f"{component}.jsonl"

    def make(self) -> None:
        """Create the folders, readable by their owner only.

        Raises
        ------
        StorageError
            A folder can't be created or written.
        """
        for folder in (
            self.state,
            self.state / "logs",
            self.state / "data",
            self.state / "config",
            self.cache,
        ):
            writable_folder(folder)


def temporary_path(path: Path) -> Path:
    """Return a hidden path beside `path` that no other process and no other thread of this process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")


def writable_folder(folder: Path) -> Path:
    """Create `folder` if it is missing, verify that a file can be written there, and return it.

    Raises
    ------
    StorageError
        The folder can't be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = temporary_path(folder / "probe")
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"The lab can't write to {folder}: {error.strerror or error}.",
            next_step="free disk space, or set XDG_STATE_HOME and XDG_CACHE_HOME to writable folders",
        ) from error
    return folder


def has_sha256(path: Path, sha256: str) -> bool:
    """Return whether a file is readable and has this SHA-256 digest."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False


def write_atomically(path: Path, text: str) -> None:
    """Write `text` atomically: a reader sees either the old file or the new one.

    Raises
    ------
    StorageError
        The file can't be written.
    """
    temporary = temporary_path(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"The lab can't write {path}: {error.strerror or error}.",
            next_step="free disk space, or make the folder writable",
        ) from error
