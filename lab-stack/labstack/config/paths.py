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

ISTIO = CONFIG / "istio"
"""The lab's own Istio resources."""

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
            The name is longer than 40 characters, or contains characters other than letters, digits, ``-`` and ``_``;
            the user has no home; or a folder's path has a form that a program of the lab can't use.
        """
        given, name = name, name or os.environ.get("LAB_NAME") or "default"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name):
            source = "pass a name of" if given else "unset LAB_NAME, or set it to"
            raise LabError(
                f"{name[:60]!r} is not a valid name for a lab.",
                next_step=f"{source} at most 40 letters, digits, '-' and '_'",
            )
        try:
            return cls(
                state=_checked("XDG_STATE_HOME", platformdirs.user_state_path("saga-lab")) / name,
                cache=_checked("XDG_CACHE_HOME", platformdirs.user_cache_path("saga-lab")),
            )
        except RuntimeError as error:  # no HOME, and no account that has one
            raise LabError(
                f"The lab finds no home folder for its files: HOME is not set, and user {os.getuid()} has no account.",
                next_step="set HOME to a folder that you can write",
            ) from error

    def relative(self, path: Path) -> str:
        """Return a path below the state folder as seen from there.

        The path of the state folder may contain characters that have a meaning in configuration files, such as a comma
        or a backslash. So programs that run in this folder get relative paths in their configuration.
        """
        return str(path.relative_to(self.state))

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
        """Create the folders, accessible to their owner only.

        Raises
        ------
        StorageError
            A folder can't be created or written, or belongs to another user.
        """
        for folder in (
            self.state,
            self.state / "logs",
            self.state / "data",
            self.state / "config",
            self.cache,
        ):
            writable_folder(folder)
        for folder in self.state, self.cache:
            _require_own(folder)


def _require_own(folder: Path) -> None:
    """Refuse a folder of another user, who could replace its content; root may use it.

    If other users can write to an own folder, remove their write permission.
    """
    status = folder.stat()
    if status.st_uid == os.geteuid():
        if status.st_mode & 0o022:
            folder.chmod(status.st_mode & 0o755)
    elif os.geteuid() != 0:
        raise StorageError(
            f"{folder} belongs to another user.",
            next_step="set XDG_STATE_HOME and XDG_CACHE_HOME to folders of your own",
        )


def _checked(variable: str, folder: Path) -> Path:
    """Return the folder, if every program of the lab can use its path.

    Raises
    ------
    LabError
        The path has a colon or a control character, or is not UTF-8.
    """
    problem = ""
    if found := re.search(r"[:\x00-\x1f\x7f]", str(folder)):
        problem = f"contains {found[0]!r}, which Java can't have in the path of a program"
    elif os.fsencode(folder).decode("utf-8", "replace") != str(folder):
        problem = "has letters that this shell's locale can't show"
    if problem:
        raise LabError(
            f"The lab can't use the folder {str(folder)!a}: it {problem}.",
            next_step=f"set {variable} to another folder, such as one in /var/tmp"
            + (", or set LC_ALL=C.UTF-8" if "locale" in problem else ""),
        )
    return folder


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
        for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
            missing.mkdir(exist_ok=True, mode=0o700)  # `parents=True` would ignore the mode for the parents
        probe = temporary_path(folder / "probe")
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise StorageError(
            f"The lab can't write to {folder}: {error.strerror or error}.",
            next_step="free some space, or set XDG_STATE_HOME and XDG_CACHE_HOME to writable folders",
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
            next_step="free some space, or make the folder writable",
        ) from error
