"""Take programs from a bundle into this user's cache, so that nothing has to be downloaded.

python -m labstack.offline FOLDER
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from labstack.errors import StorageTrouble
from labstack.paths import LabPaths


def take_programs(bundle: Path, cache: Path | None = None) -> int:
    """Copy what is not there yet; what is there stays. The lab checks each program before it uses it.

    Parameters
    ----------
    bundle : Path
        The folder of programs, as ``tools/make_bundle.py`` has made it.
    cache : Path, optional
        Where to, instead of the user's cache.

    Returns
    -------
    int
        How many files were copied.

    Raises
    ------
    StorageTrouble
        They can't be written.
    """
    cache = cache or LabPaths.of_user().cache
    copied = 0
    try:
        for source in sorted(path for path in bundle.rglob("*") if path.is_symlink() or path.is_file()):
            target = cache / source.relative_to(bundle)
            if target.exists() or target.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # A copy that is interrupted must not be taken for a whole one.
            growing = target.with_name(f".{target.name}.growing")
            shutil.copy2(source, growing, follow_symlinks=False)
            growing.replace(target)
            copied += 1
    except OSError as error:
        raise StorageTrouble(
            f"The programs can't be copied to {cache}: {error.strerror or error}.",
            next_step="free some space, or point XDG_CACHE_HOME to a folder that you can write",
        ) from error
    return copied


if __name__ == "__main__":
    print(f"{take_programs(Path(sys.argv[1]))} files of programs were taken from the bundle.")
