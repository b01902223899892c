"""Copy programs from a bundle into this user's cache, so that nothing has to be downloaded.

python -m labstack.install.offline FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from labstack.config.paths import LabPaths
from labstack.errors import StorageError


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
        for source in sorted(path for path in bundle.rglob("*") if path.is_symlink() or path.is_file()):
            target = cache / source.relative_to(bundle)
            if target.exists() or target.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Rename after the copy, so that an interrupted copy never looks complete.
            partial = target.with_name(f".{target.name}.partial")
            shutil.copy2(source, partial, follow_symlinks=False)
            partial.replace(target)
            copied += 1
    except OSError as error:
        raise StorageError(
            f"The programs can't be copied to {cache}: {error.strerror or error}.",
            next_step="free some space, or point XDG_CACHE_HOME to a folder that you can write",
        ) from error
    return copied


if __name__ == "__main__":
    print(f"Copied {copy_programs(Path(sys.argv[1]))} program files from the bundle.")
