"""A learner's copy of the course: the notebooks without outputs, and the files that they link to."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from labstack.config.paths import TREE, write_atomically
from labstack.errors import LabError, StorageError

NOTE = ".saga-lab-course.json"
"""Records what was written and when, so that a later copy detects the learner's changes."""

FIRST = "notebooks/00-start-here.ipynb"
FOLDERS = ("notebooks", "instructor", "build")
"""Folders with notebooks of the course; in others are checkpoints and a learner's own files."""
PACKAGES = {"labservices": "labservices", "labkit": "labkit", "lab-stack/labstack": "labstack"}
"""Folders of the repository that are packages; an installation has them elsewhere."""

LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")
LINK_WITH_TEXT = re.compile(r"(?<!!)\[([^\[\]]*)\]\((?!\w+:|#)([^)\s#]+)[^)\s]*\)")


@dataclass(frozen=True)
class CourseCopy:
    """The result of a copy.

    Attributes
    ----------
    folder : Path
        Folder of the course.
    written : tuple of str
        Files that are new, or newer than before.
    kept : tuple of str
        Files that the learner has changed, and that the copy left unchanged.
    beside : tuple of str
        Newer versions of those, written beside them with the date in their name.
    """

    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    beside: tuple[str, ...]


def copy_course(folder: Path, today: date | None = None) -> CourseCopy:
    """Write the course into a folder, without overwriting files that the learner has changed.

    Parameters
    ----------
    folder : Path
        Target folder; created if it does not exist.
    today : date, optional
        Date of the copy; default: today.

    Raises
    ------
    LabError
        The folder is the course itself.
    StorageError
        The folder can't be written.
    """
    day = (today or date.today()).isoformat()
    written: list[str] = []
    kept: list[str] = []
    beside: list[str] = []
    try:
        if folder.resolve() == TREE:
            raise LabError(
                f"{folder} is the course itself.", next_step="choose another folder: `lab notebooks my-course`"
            )
        recorded = _recorded_files(folder)
        known = dict(recorded)
        for name, content in course():
            path, new = folder / name, _hash(content)
            current = _hash(path.read_bytes()) if path.exists() else None
            if current in (None, recorded.get(name)):
                if current != new:
                    _write(path, content)
                    written.append(name)
            elif current != new:
                kept.append(name)
                if recorded.get(name) != new:
                    newer = path.with_name(f"{path.stem}.{day}{path.suffix}")
                    _write(newer, content)
                    beside.append(newer.relative_to(folder).as_posix())
            known[name] = new
        note = {"version": version("saga-lab"), "date": day, "files": known}
        write_atomically(folder / NOTE, json.dumps(note, indent=1))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StorageError(
            f"The course can't be written to {str(folder)[:200]!r}: {reason}.", next_step="choose another folder"
        ) from error
    return CourseCopy(folder, tuple(written), tuple(kept), tuple(beside))


def course() -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file of a learner's copy."""
    notebooks = sorted(p.relative_to(TREE).as_posix() for p in (TREE / "notebooks").rglob("*.ipynb") if _is_ours(p))
    for name in notebooks:
        yield name, without_outputs((TREE / name).read_text(encoding="utf-8")).encode()
    for name in sorted(_linked(notebooks) - set(notebooks)):
        content = _installed_path(name).read_bytes()
        yield name, without_dead_links(name, content.decode()).encode() if name.endswith(".md") else content


def without_dead_links(name: str, text: str) -> str:
    """Return a document in which each link to a file that this installation lacks is replaced by its text.

    Parameters
    ----------
    name : str
        Path of the document in the repository.
    text : str
        Markdown of the document.
    """
    folder = PurePosixPath(name).parent
    return LINK_WITH_TEXT.sub(lambda link: link[0] if _files(folder, link[2]) else link[1], text)


def without_outputs(notebook: str) -> str:
    """Return a notebook's JSON without outputs and execution counts."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _is_ours(notebook: Path) -> bool:
    """Report whether a notebook belongs to the course, and is neither a checkpoint nor a learner's own notebook."""
    return notebook.parent.name in FOLDERS


def _linked(start: Iterable[str]) -> set[str]:
    """Return these files and every file that they link to, directly or through other documents."""
    found, waiting = set(start), list(start)
    while waiting:
        name = waiting.pop()
        for target in LINK.findall(_installed_path(name).read_text(encoding="utf-8")):
            for file in _files(PurePosixPath(name).parent, target):
                if file not in found:
                    found.add(file)
                    if file.endswith((".md", ".ipynb")):
                        waiting.append(file)
    return found


def _files(folder: PurePosixPath, target: str) -> list[str]:
    """Return the repository files that a link in a document in `folder` points to; empty if it points elsewhere."""
    parts: list[str] = []
    for part in (folder / target).parts:
        if part == "..":
            if not parts:
                return []
            parts.pop()
        else:
            parts.append(part)
    name = "/".join(parts)
    path = _installed_path(name)
    if path.is_dir():
        return [f"{name}/{file.name}" for file in sorted(path.iterdir()) if file.is_file()]
    return [name] if path.is_file() else []


def _installed_path(name: str) -> Path:
    """Return the path of a repository file in this installation."""
    for folder, package in PACKAGES.items():
        if name == folder or name.startswith(f"{folder}/"):
            spec = importlib.util.find_spec(package)
            if spec and spec.submodule_search_locations:
                return Path(spec.submodule_search_locations[0]) / name.removeprefix(folder).lstrip("/")
    return TREE / name


def _recorded_files(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / NOTE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
