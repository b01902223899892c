"""Build a program from source with Go in the lab's cache, with the version and flags of the versions file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

from labstack.config.environment import clean, run
from labstack.config.paths import writable_folder
from labstack.errors import ComponentFailed, ProgramMissing, StorageError
from labstack.install.catalogue import ByGo
from labstack.install.errors import VerificationFailed
from labstack.install.store import Program, Store
from labstack.state import remove_tree

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

LAST_LINES = 15


def from_go(store: Store, report: Callable[[str], None], *, keep: bool = False) -> Program:
    """Build a program with Go and install it.

    An interrupted build resumes: downloads and compiled packages stay until a build succeeds.

    Parameters
    ----------
    store : Store
        Store of the program.
    report : callable
        Called with the progress as text.
    keep : bool
        Whether to keep downloads and compiled packages after the build.

    Raises
    ------
    ProgramMissing
        If Go does not build the program, Go is not installed, or it is too old.
    StorageError
        If the disk or memory is too small.
    ComponentFailed
        If the build fails. The error contains the last lines of the output.
    VerificationFailed
        If a module that Go's checksum database does not have differs from the pinned one.
    """
    recipe = store.entry.by_go
    if recipe is None:
        raise ProgramMissing("it can't be built with Go")
    version = go_version(recipe)
    folders = {
        "GOPATH": os.environ.get("GOPATH") or str(store.build / "gopath"),
        "GOCACHE": os.environ.get("GOCACHE") or str(store.build / "gocache"),
    }
    _check_resources(recipe, writable_folder(Path(folders["GOCACHE"])))
    with store.staging() as staging:
        content = staging / "files"
        content.mkdir()
        scratch = staging / "scratch"
        scratch.mkdir()
        folders["GOTMPDIR"] = str(scratch)
        go = _Go(environment(recipe, folders, content), report, recipe.takes)
        for module, checksum in recipe.sums.items():
            found = json.loads(go.run(["mod", "download", "-json", module], staging))["Sum"]
            if found != checksum:
                raise VerificationFailed(f"The Go module {module} has the checksum {found}, not {checksum}.")
        if recipe.kind == "install":
            go.run(["install", "-v", *recipe.flags, f"{_package(recipe)}@{recipe.version}"], staging)
        else:
            module_info = json.loads(go.run(["mod", "download", "-json", f"{recipe.module}@{recipe.version}"], staging))
            target = content / store.entry.program
            go.run(["build", "-v", *recipe.flags, "-o", str(target), f"./{recipe.package}"], Path(module_info["Dir"]))
        if not (content / store.entry.program).is_file():
            built = ", ".join(sorted(path.name for path in content.iterdir())) or "nothing"
            raise ComponentFailed(
                f"Go built {built}, not {store.entry.program}.", next_step="correct lab-stack/versions.toml"
            )
        program = store.put(content, "go", f"{_package(recipe)}@{recipe.version}, {version}")
    if not keep:
        remove_build(store)
    return program


def go_version(recipe: ByGo) -> str:
    """Return the version of Go on PATH, such as ``go1.26.8``.

    Raises
    ------
    ProgramMissing
        If Go is not installed, does not report its version, or is too old.
    """
    go = shutil.which("go")
    if go is None:
        raise ProgramMissing(f"Go is not on PATH; {recipe.minimum} or newer is needed")
    try:
        version_output = run([go, "version"], timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramMissing(f"{go} does not run: {error}") from error
    found = re.search(r"\bgo(\d+)\.(\d+)(\.\d+)?", version_output)
    if found is None:
        raise ProgramMissing(f"{go} does not report its version; it printed {version_output.strip()[:80]!r}")
    major, minor = (int(part) for part in recipe.minimum.split(".")[:2])
    if (int(found[1]), int(found[2])) < (major, minor):
        raise ProgramMissing(f"{go} is {found[0]}; {recipe.minimum} or newer is needed")
    return found[0]


def environment(recipe: ByGo, folders: Mapping[str, str], bin_folder: Path) -> dict[str, str]:
    """Return the environment of a build, which no variable of the caller changes."""
    own = {
        **recipe.environment,
        **folders,
        "GOBIN": str(bin_folder),
        "GOFLAGS": "-buildvcs=false",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",  # do not download another Go
    }
    return clean(own, downloads=True)


def remove_build(store: Store) -> None:
    """Remove the downloads and compiled packages of a build. Go stores downloaded modules read-only."""
    for folder, _, _ in os.walk(store.build):
        with contextlib.suppress(OSError):
            os.chmod(folder, stat.S_IRWXU)
    remove_tree(store.build)


def _package(recipe: ByGo) -> str:
    return f"{recipe.module}/{recipe.package}" if recipe.package else recipe.module


def _check_resources(recipe: ByGo, folder: Path) -> None:
    resumes = any(folder.iterdir())  # an earlier build has used part of the disk space already
    free = shutil.disk_usage(folder).free
    if not resumes and free < recipe.disk:
        raise StorageError(
            f"{folder} has {free / 1e9:.1f} GB free; the build needs {recipe.disk / 1e9:.1f} GB",
            next_step="free some space, or point XDG_CACHE_HOME to a larger disk",
        )
    memory = psutil.virtual_memory().available
    if memory < recipe.memory:
        raise StorageError(
            f"{memory / 1e9:.1f} GB of memory is free; the build needs {recipe.memory / 1e9:.1f} GB",
            next_step="run `lab down` and close other programs, then run the same command again",
        )


class _Go:
    """Run Go, report its progress, and terminate its whole process group when the build ends."""

    def __init__(self, environment: dict[str, str], report: Callable[[str], None], takes: str) -> None:
        self._environment = environment
        self._report = report
        self._takes = takes
        self._began = time.monotonic()
        self._packages = self._modules = 0

    def run(self, arguments: list[str], folder: Path) -> str:
        """Run ``go ARGUMENTS`` in a folder, and return its standard output."""
        self._report_progress("starting")
        last: list[str] = []
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            with self._running(arguments, folder, output.fileno()) as process:
                assert process.stderr is not None
                for line in process.stderr:
                    last = [*last[-LAST_LINES:], line.rstrip()]
                    self._count(line)
            output.seek(0)
            printed = output.read()
        if process.returncode != 0:
            raise ComponentFailed(
                f"`go {arguments[0]}` failed after {self._elapsed()}",
                log="\n".join(text[:400] for text in [*last[-LAST_LINES:], *printed.splitlines()[-3:]]),
                next_step="read Go's output, and check the network (GOPROXY). Compiled packages are kept",
            )
        return printed

    @contextlib.contextmanager
    def _running(self, arguments: list[str], folder: Path, stdout: int) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*_nice_prefix(), "go", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self._environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            yield process
            process.wait()
        finally:
            _end_group(process)

    def _count(self, line: str) -> None:
        if line.startswith("go: "):
            self._modules += line.startswith("go: downloading ")
        else:
            self._packages += 1
        self._report_progress(line.split()[-1] if self._packages and line.split() else "downloading")

    def _report_progress(self, what: str) -> None:
        self._report(
            f"{self._elapsed()} of {self._takes}: {self._modules} modules downloaded, "
            f"{self._packages} packages compiled, {what[:60]}"
        )

    def _elapsed(self) -> str:
        seconds = time.monotonic() - self._began
        return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def _nice_prefix() -> list[str]:
    """Return a ``nice`` command prefix, so that the machine stays responsive.

    Priority that is set on the running process would apply to one thread of Go only.
    """
    nice = shutil.which("nice")
    return [nice, "-n", "10"] if nice else []


def _end_group(process: subprocess.Popen[str]) -> None:
    """Terminate Go and its compilers. They run in their own session, so no other process is affected."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stderr is not None:
        process.stderr.close()
