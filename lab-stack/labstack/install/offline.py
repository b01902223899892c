"""Copy programs from a bundle into this user's cache, so that nothing has to be downloaded.

python -m labstack.install.offline FOLDER
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

from labstack.config.paths import LabPaths, has_sha256
from labstack.errors import StorageError
from labstack.install.store import FILES, RECORD

PROGRAM_STARTS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")
"""First bytes of programs: for Linux, for macOS (one or several processors), and scripts."""


def copy_programs(bundle: Path, cache: Path | None = None) -> int:
    """Copy the programs that the cache lacks; existing files stay. The lab verifies each program before it uses it.

    Parameters
    ----------
    bundle : Path
        The folder of programs that ``tools/make_bundle.py`` has written.
    cache : Path, optional
        The folder to copy to; default: the user's cache.

    Returns
    -------
    int
        Number of copied files.

    Raises
    ------
    StorageError
        A file can't be written.
    """
    cache = cache or LabPaths.of_user().cache
    copied = 0
    try:
        sources = [path for path in bundle.rglob("*") if path.is_symlink() or path.is_file()]
        for source in sorted(sources, key=lambda path: (path.name == RECORD, path)):
            target = cache / source.relative_to(bundle)
            if target.exists() or target.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Rename after the copy, so that an interrupted copy never looks complete.
            partial = target.with_name(f".{target.name}.partial")
            shutil.copy2(source, partial, follow_symlinks=False)
            partial.replace(target)
            copied += 1
            if target.name == RECORD:
                _restore_attributes(target.parent)
    except OSError as error:
        raise StorageError(
            f"The programs can't be copied to {cache}: {error.strerror or error}.",
            next_step="free some space, or point XDG_CACHE_HOME to a folder that you can write",
        ) from error
    return copied


def _restore_attributes(folder: Path) -> None:
    """Restore the times and permissions of an installed program's files, which a FAT file system does not keep.

    The lab takes a program with another time for a changed one. A file's content is verified before its time is set.
    """
    with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):  # the lab reinstalls the program
        files = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        for name, file_record in files.items():
            file = folder / FILES / name
            if file.is_file() and has_sha256(file, file_record["sha256"]):
                with file.open("rb") as content:
                    is_program = content.read(4).startswith(PROGRAM_STARTS)
                file.chmod(0o755 if is_program else 0o644)
                os.utime(file, ns=(file_record["mtime_ns"], file_record["mtime_ns"]))


if __name__ == "__main__":
    print(f"Copied {copy_programs(Path(sys.argv[1]))} program files from the bundle.")
