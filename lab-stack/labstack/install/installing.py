"""``lab install NAME``: try the install sources of a program in order, until one succeeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from labstack.config.paths import LabPaths
from labstack.errors import LabError, ProgramMissing
from labstack.install.catalogue import Entry
from labstack.install.store import Program, Store
from labstack.install.trouble import Refused
from labstack.progress import Progress
from labstack.state import remove_tree

WAYS = ("path", "image", "archive", "debian", "go")
"""Install sources in the order of attempts."""

NAMES = {
    "path": "PATH",
    "image": "its official image",
    "archive": "its project's release archive",
    "debian": "Debian's package",
    "go": "its source with Go",
}


def install(
    wanted: Entry, paths: LabPaths, progress: Progress, *, ways: Sequence[str] = WAYS, keep: bool = False
) -> Program:
    """Ensure that a program is installed and intact. An installed program is only verified.

    Parameters
    ----------
    wanted : Entry
        The program.
    paths : LabPaths
        Folders of the lab, among them the cache.
    progress : Progress
        Receives a stage per attempt, and its progress.
    ways : sequence of {'path', 'image', 'archive', 'debian', 'go'}
        Install sources to try, in this order. A single source replaces a program that another source installed.
    keep : bool
        Whether to keep downloads and compiled packages of a Go build.

    Returns
    -------
    Program
        The installed program.

    Raises
    ------
    ProgramMissing
        If no source succeeds. The message lists each source with its reason.
    Refused
        If a download fails verification.
    StorageTrouble
        If the cache can't be written.
    LabBusy
        If another lab has been installing the program for over an hour.
    """
    store = Store(wanted, paths)
    obstacles: list[tuple[str, LabError]] = []
    with store.locked(progress.say):
        if (there := _whole(store, progress)) is not None and (len(ways) > 1 or there.source in ways):
            return there
        for way in ways:
            try:
                with progress.stage(f"{wanted.name} {wanted.version} from {NAMES[way]}") as stage:
                    return _take(way, store, paths, partial(progress.note, stage), keep)
            except Refused:
                raise
            except LabError as error:
                if type(error) is LabError:
                    raise
                obstacles.append((way, error))
                hint = f" ({error.next_step})" if way != ways[-1] and error.next_step else ""
                progress.say(f"{wanted.name} is not available from {NAMES[way]}: {_clause(error)}{hint}")
    raise _nowhere(wanted, obstacles)


def _whole(store: Store, progress: Progress) -> Program | None:
    """Return the installed program if every file matches its record."""
    if not store.folder.exists():
        return None
    with progress.stage(f"checking {store.entry.name} {store.entry.version}") as stage:
        damaged = store.damaged()
        found = None if damaged else store.find()
        if found is None:
            progress.note(stage, f"damaged: {', '.join(damaged[:3]) or store.entry.program}; reinstalling")
            return None
        pinned = store.entry.in_image
        if found.source == "image" and pinned and pinned.digest and not found.origin.endswith(f"@{pinned.digest}"):
            progress.note(stage, "from another image than the one in the versions file; reinstalling")
            return None
        progress.note(stage, f"verified, from {found.origin}")
        return found


def _take(way: str, store: Store, paths: LabPaths, tell: Callable[[str], None], keep: bool) -> Program:
    # Imported here, so that a caller that only looks up a program need not import the registry client.
    if way == "image":
        from labstack.install.sources.from_image import from_image

        return from_image(store, tell)
    if way == "archive":
        from labstack.install.sources.from_archive import from_archive

        return from_archive(store, tell)
    if way == "debian":
        from labstack.install.sources.from_debian import from_debian

        return from_debian(store, tell)
    if way == "go":
        from labstack.install.sources.from_go import from_go

        return from_go(store, tell, keep=keep)
    from labstack.install.sources.on_path import look

    program = look(store.entry, paths)
    remove_tree(store.folder)  # else the lab would use the installed program
    return program


def _clause(error: LabError) -> str:
    """Return the error's problem as a clause for the middle of a sentence."""
    problem = error.problem.rstrip(".")
    return problem[0].lower() + problem[1:] if problem.startswith(("The ", "What ")) else problem


def _nowhere(wanted: Entry, obstacles: Sequence[tuple[str, LabError]]) -> LabError:
    tried = "\n".join(f"    from {NAMES[way]}: {_clause(error)}" for way, error in obstacles)
    steps = [f"to install it from {NAMES[way]}, {error.next_step}" for way, error in obstacles if error.next_step]
    command = wanted.on_path.command if wanted.on_path else wanted.name
    steps.append(f"or put {command} {wanted.version} on PATH yourself")
    return ProgramMissing(
        f"{wanted.name} {wanted.version} could not be installed:\n{tried}",
        log=next((error.log for _, error in obstacles if error.log), ""),
        next_step="\n    ".join(steps),
    )
