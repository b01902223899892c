"""Programs that Go builds from small real modules, like istiod; skipped with a reason if Go or a module is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from labstack.config.paths import LabPaths
from labstack.errors import ProgramMissing
from labstack.install import Entry, Program, install
from labstack.install.catalogue import ByGo, entry, names
from labstack.install.errors import VerificationFailed
from labstack.install.sources.from_go import from_go, remove_build
from labstack.install.store import PARTIAL, Store
from labstack.process_id import is_alive
from labstack.progress import Progress
from labstack.waiting import wait_until

T = TypeVar("T")

HELLO = Entry(
    "hello",
    "1",
    "hello",
    by_go=ByGo("install", "golang.org/x/example/hello", "", "v0.0.0-20250915201037-7f05d217867b", "1.19"),
)
TOMLV = Entry(
    "tomlv",
    "1.4.0",
    "tomlv",
    by_go=ByGo("build", "github.com/BurntSushi/toml", "cmd/tomlv", "v1.4.0", "1.18", ("-trimpath", "-ldflags=-s -w")),
)


INTERRUPTIBLE = """
import pathlib, sys
from labstack.cli import main
from labstack.config.paths import LabPaths
from tests.stack.test_install_go import HELLO, install_with_go

@main.command()
def build():
    install_with_go(HELLO, LabPaths(*map(pathlib.Path, sys.argv[1:])))

main(["build"])
"""
"""A command of the lab that runs a build, to be interrupted as the lab's own commands are."""


@pytest.fixture(scope="module")
def go_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The caller's Go folders, with Go's standard library compiled once for all tests; removed at the end."""
    if not shutil.which("go"):
        pytest.skip("NOT TESTED: there is no Go on this machine")
    folder = tmp_path_factory.mktemp("go")
    folders = {"GOPATH": str(folder / "path"), "GOCACHE": str(folder / "cache")}
    for one in (HELLO, TOMLV):
        assert one.by_go is not None
        got = subprocess.run(
            ["go", "mod", "download", f"{one.by_go.module}@{one.by_go.version}"],
            env={**os.environ, **folders},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if got.returncode:
            pytest.skip(f"NOT TESTED: Go's modules can't be fetched: {got.stderr[-300:]}")
    yield folders
    remove_build(Store(replace(HELLO, name="go"), LabPaths(folder, folder)))
    subprocess.run(["go", "clean", "-modcache"], env={**os.environ, **folders}, check=True, cwd=folder)


@pytest.fixture
def paths(tmp_path: Path, go_folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> LabPaths:
    """The folders of a separate lab; the caller has set the environment variables for Go's folders."""
    for name, folder in go_folders.items():
        monkeypatch.setenv(name, folder)
    return LabPaths(tmp_path / "state", tmp_path / "cache")


def install_with_go(wanted: Entry, paths: LabPaths, progress: Progress | None = None) -> Program:
    return install(wanted, paths, progress or Progress(), sources=["go"])


@pytest.mark.long
def test_go_installs_a_program(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program runs, with module and Go version recorded, whatever the caller has set for other programs."""
    for name, value in {"GOOS": "plan9", "GOARCH": "arm", "GOFLAGS": "-mod=vendor", "GO111MODULE": "off"}.items():
        monkeypatch.setenv(name, value)
    notes: list[str] = []
    progress = Progress(lambda seen: notes.extend(stage.note for stage in seen.stages))
    program = install_with_go(HELLO, paths, progress)
    assert subprocess.run([program.path], capture_output=True, text=True, check=True).stdout == "Hello, world!\n"
    assert program.source == "go"
    assert program.origin.startswith("golang.org/x/example/hello@v0.0.0-20250915201037-7f05d217867b, go1.")
    assert Store(HELLO, paths).damaged() == []
    assert any("packages compiled" in note for note in notes)
    assert not Store(HELLO, paths).build.exists()


@pytest.mark.long
def test_go_builds_a_program_in_its_modules_folder(paths: LabPaths, tmp_path: Path) -> None:
    """A module that `go install` can't install is downloaded and built in its folder, with its flags."""
    program = install_with_go(TOMLV, paths)
    good = tmp_path / "good.toml"
    good.write_text("a = 1\n")
    assert subprocess.run([program.path, good], capture_output=True).returncode == 0
    good.write_text("a = \n")
    assert subprocess.run([program.path, good], capture_output=True).returncode == 1
    assert b"/cmd/tomlv\n" in program.path.read_bytes()
    assert str(tmp_path).encode() not in program.path.read_bytes()  # -trimpath


@pytest.mark.long
def test_build_with_the_labs_cache_removes_its_files(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the caller's folders, a build uses the lab's cache, and removes its files unless told to keep them.

    It removes read-only files, too.
    """
    for name in ("GOPATH", "GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    store = Store(HELLO, paths)
    from_go(store, lambda text: None, keep=True)
    module = next(store.build.glob("gopath/pkg/mod/golang.org/x/example/hello@*"))
    assert not module.stat().st_mode & 0o200
    notes: list[str] = []
    from_go(store, notes.append)
    assert " 0 modules downloaded, 0 packages compiled" in notes[-1].replace("1 packages", "0 packages")
    assert not store.build.exists()
    assert store.find() is not None


def test_a_module_with_another_checksum_is_rejected(paths: LabPaths) -> None:
    """A module that Go's checksum database does not have is compared with its pinned checksum before the build."""
    assert HELLO.by_go is not None
    module = f"{HELLO.by_go.module}@{HELLO.by_go.version}"
    other = replace(HELLO, by_go=replace(HELLO.by_go, sums={module: "h1:another"}))
    with pytest.raises(VerificationFailed, match=r"has the checksum h1:\S+, not h1:another"):
        install_with_go(other, paths)
    assert not Store(other, paths).folder.exists()


def test_every_module_without_a_public_checksum_is_pinned() -> None:
    """Each module that a build exempts from Go's checksum database has a checksum in versions.toml."""
    for name in names():
        if recipe := entry(name).by_go:
            exempt = {module for module in recipe.environment.get("GONOSUMDB", "").split(",") if module}
            assert exempt == {module.partition("@")[0] for module in recipe.sums}


def test_missing_module_is_reported_with_gos_message(paths: LabPaths) -> None:
    """The error has Go's message, and nothing is installed."""
    assert HELLO.by_go is not None
    wanted = replace(HELLO, by_go=replace(HELLO.by_go, version="v0.0.0-20250915201037-000000000000"))
    with pytest.raises(ProgramMissing, match="`go install` failed") as failed:
        install_with_go(wanted, paths)
    assert "golang.org/x/example/hello@v0.0.0-20250915201037-000000000000" in failed.value.log
    assert "GOPROXY" in failed.value.next_step
    assert Store(wanted, paths).find() is None


def test_go_build_without_a_network_names_the_next_step(
    paths: LabPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no module can be downloaded, the error has Go's message and the next step."""
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOPATH", str(tmp_path / "empty"))
    with pytest.raises(ProgramMissing, match="`go install` failed") as failed:
        install_with_go(HELLO, paths)
    assert "GOPROXY=off" in failed.value.log
    assert "check the network" in failed.value.next_step


@pytest.mark.long
def test_build_with_an_unexpected_program_name_fails(paths: LabPaths) -> None:
    """A build whose program has another name than expected is an error."""
    with pytest.raises(ProgramMissing, match=r"Go built hello, not howdy"):
        install_with_go(replace(HELLO, program="howdy"), paths)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_stops_go_and_its_compilers(
    how: signal.Signals, paths: LabPaths, go_folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C stops Go and its compilers; nothing counts as installed, and the next build succeeds."""
    monkeypatch.setenv("GOCACHE", str(tmp_path / "cold"))
    argv = [sys.executable, "-c", INTERRUPTIBLE, str(paths.state), str(paths.cache)]
    with subprocess.Popen(argv, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True) as process:
        family = psutil.Process(process.pid)

        def compiling() -> tuple[list[psutil.Process], list[int]] | None:
            below = family.children(recursive=True)
            niceness = [one.nice() for one in below if one.name() == "compile"]
            return (below, niceness) if niceness else None

        found = wait_until(lambda: process.poll() is not None or _inspect_if_alive(compiling), 60)
        assert process.poll() is None, process.communicate()
        assert isinstance(found, tuple)
        below, niceness = found
        assert set(niceness) == {10}
        process.send_signal(how)
        _, output = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert not [one for one in below if is_alive(one)]
    store = Store(HELLO, paths)
    assert store.find() is None
    assert not list(store.home.glob(f"{PARTIAL}*"))
    monkeypatch.setenv("GOCACHE", go_folders["GOCACHE"])  # faster than to complete the other one
    assert install_with_go(HELLO, paths).path.is_file()


def _inspect_if_alive(inspect: Callable[[], T]) -> T | None:
    """Inspect processes; return nothing if one of them exits meanwhile."""
    try:
        return inspect()
    except psutil.Error:
        return None
