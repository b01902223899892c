"""``lab install NAME``: try the install sources of a program in order, until one succeeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from labstack.config.paths import LabPaths
from labstack.errors import LabError, ProgramMissing
from labstack.install.catalogue import Entry
from labstack.install.errors import VerificationFailed
from labstack.install.store import Program, Store
from labstack.progress import Progress
from labstack.state import remove_tree

SOURCES = ("path", "image", "archive", "debian", "go")
"""Install sources in the order of attempts."""

NAMES = {
    "path": "PATH",
    "image": "its official image",
    "archive": "its project's release archive",
    "debian": "Debian's package",
    "go": "its source with Go",
}


def install(
    wanted: Entry, paths: LabPaths, progress: Progress, *, sources: Sequence[str] = SOURCES, keep: bool = False
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
    sources : sequence of {'path', 'image', 'archive', 'debian', 'go'}
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
    VerificationFailed
        If a download fails verification.
    StorageError
        If the cache can't be written.
    LabBusy
        If another lab has been installing the program for over an hour.
    """
    store = Store(wanted, paths)
    failures: list[tuple[str, LabError]] = []
    with store.locked(progress.report):
        if (installed := _find_intact(store, progress)) is not None and (
            len(sources) > 1 or installed.source in sources
        ):
            return installed
        for source in sources:
            try:
                name = f"{wanted.name} {wanted.version_from(source)}".rstrip()
                with progress.stage(f"{name} from {NAMES[source]}") as stage:
                    return _install_from(source, store, paths, partial(progress.note, stage), keep)
            except VerificationFailed:
                raise
            except LabError as error:
                if type(error) is LabError:
                    raise
                failures.append((source, error))
                hint = f" ({error.next_step})" if source != sources[-1] and error.next_step else ""
                progress.report(f"{wanted.name} is not available from {NAMES[source]}: {_clause(error)}{hint}")
    raise _all_sources_failed(wanted, failures)


def _find_intact(store: Store, progress: Progress) -> Program | None:
    """Return the installed program if every file matches its record."""
    if not store.folder.exists():
        return None
    with progress.stage(f"checking {store.entry.name}") as stage:
        damaged = store.damaged()
        found = None if damaged else store.find()
        if found is None:
            progress.note(stage, f"damaged: {', '.join(damaged[:3]) or store.entry.program}; reinstalling")
            return None
        pinned = store.entry.in_image
        if found.source == "image" and pinned and pinned.digest and not found.origin.endswith(f"@{pinned.digest}"):
            progress.note(stage, "from another image than the one in the versions file; reinstalling")
            return None
        progress.note(stage, f"verified: {found.version}, from {found.origin}")
        return found


def _install_from(source: str, store: Store, paths: LabPaths, report: Callable[[str], None], keep: bool) -> Program:
    # Imported here, so that a caller that only looks up a program need not import the registry client.
    if source == "image":
        from labstack.install.sources.from_image import from_image

        return from_image(store, report)
    if source == "archive":
        from labstack.install.sources.from_archive import from_archive

        return from_archive(store, report)
    if source == "debian":
        from labstack.install.sources.from_debian import from_debian

        return from_debian(store, report)
    if source == "go":
        from labstack.install.sources.from_go import from_go

        return from_go(store, report, keep=keep)
    from labstack.install.sources.on_path import find_on_path

    program = find_on_path(store.entry, paths)
    remove_tree(store.folder)  # else the lab would use the installed program
    return program


def _clause(error: LabError) -> str:
    """Return the error's problem as a clause for the middle of a sentence."""
    problem = error.problem.rstrip(".")
    return problem[0].lower() + problem[1:] if problem.startswith(("The ", "What ")) else problem


def _all_sources_failed(wanted: Entry, failures: Sequence[tuple[str, LabError]]) -> LabError:
    tried = "\n".join(f"    from {NAMES[source]}: {_clause(error)}" for source, error in failures)
    steps = [f"to install it from {NAMES[source]}, {error.next_step}" for source, error in failures if error.next_step]
    command = wanted.on_path.command if wanted.on_path else wanted.name
    steps.append(f"or put {command} {wanted.version_from('path')} on PATH yourself")
    return ProgramMissing(
        f"{wanted.name} could not be installed:\n{tried}",
        log=next((error.log for _, error in failures if error.log), ""),
        next_step="\n    ".join(steps),
    )
