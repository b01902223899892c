"""`lab install` without an image: PATH, Go that is missing or too old, no install source at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from labstack.config.paths import LabPaths
from labstack.errors import LabBusy, ProgramMissing, StorageError, UnknownComponent
from labstack.install import Entry, entry, find_program, install, names
from labstack.install import store as stores
from labstack.install.catalogue import ByGo, InImage
from labstack.install.sources.from_go import from_go
from labstack.install.store import Store
from labstack.progress import Progress

COMMAND = [sys.executable, "-m", "labstack.cli", "install"]
HELLO = ByGo("install", "golang.org/x/example/hello", "", "v0.0.0-20250915201037-7f05d217867b", "1.19")


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """The folders of a separate lab."""
    return LabPaths(tmp_path / "state", tmp_path / "cache")


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, besides the ones that a shell script needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), "/usr/bin", "/bin"]))
    return folder


def write_script(folder: Path, name: str, *lines: str) -> Path:
    program = folder / name
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)
    return program


def install_from_path(paths: LabPaths, wanted: Entry) -> str:
    return install(wanted, paths, Progress(), sources=["path"]).version


ISTIOD = replace(entry("istiod"), in_image=None, by_go=None)


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ('client version: version.BuildInfo{Version:"1.29.1", GolangVersion:"go1.26.8"}', "1.29.1"),
        ("1.29.4-distroless", "1.29.4-distroless"),
        ("v1.29", "1.29"),
    ],
)
def test_matching_program_on_path_is_used_in_place(
    output: str, version: str, bin_folder: Path, paths: LabPaths
) -> None:
    """A program on PATH is not copied, and its version is queried only once until it changes."""
    program = write_script(bin_folder, "pilot-discovery", f"echo x >>{bin_folder}/asked", f"echo '{output}'")
    found = install(ISTIOD, paths, Progress())
    assert (found.version, found.path, found.source) == (version, program, "path")
    assert not Store(ISTIOD, paths).folder.exists()
    assert install(ISTIOD, paths, Progress()) == found == find_program("istiod", paths)
    assert (bin_folder / "asked").read_text() == "x\n"
    write_script(bin_folder, "pilot-discovery", "echo 1.30.0")
    assert find_program("istiod", paths) is None


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("echo 1.30.2", "is 1.30.2"),
        ("echo 1.290.1", "is 1.290.1"),
        ('echo \'Version:"unknown", GolangVersion:"go1.29.1"\'', "an unknown version"),
        ("exit 1", "an unknown version"),
    ],
)
def test_wrong_version_on_path_is_rejected(line: str, seen: str, bin_folder: Path, paths: LabPaths) -> None:
    """The error names the version on PATH and the required one."""
    write_script(bin_folder, "pilot-discovery", line)
    with pytest.raises(ProgramMissing, match=rf"{seen}.*; 1\.29 is needed"):
        install_from_path(paths, ISTIOD)
    assert find_program("istiod", paths) is None


def test_version_recorded_by_go_is_accepted(bin_folder: Path, paths: LabPaths) -> None:
    """A program that can't report its version is accepted if Go recorded this version of the module in it."""
    how = entry("istiod").by_go
    assert how is not None
    note = f"# mod\t{how.module}\t{how.version}\th1:x"
    wanted = replace(ISTIOD, by_go=how)
    write_script(bin_folder, "pilot-discovery", "echo unknown", note.replace("20260306", "20260307"))
    with pytest.raises(ProgramMissing, match="unknown version"):
        install_from_path(paths, wanted)
    write_script(bin_folder, "pilot-discovery", "echo unknown", note)
    assert install_from_path(paths, wanted) == wanted.version


def test_program_that_does_not_respond_times_out(
    bin_folder: Path, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not respond times out, and no process of it remains."""
    monkeypatch.setattr("labstack.install.sources.on_path.VERSION_TIMEOUT", 0.3)
    write_script(bin_folder, "pilot-discovery", f"echo $$ >{bin_folder}/pid", "exec sleep 60")
    with pytest.raises(ProgramMissing, match="does not report its version"):
        install_from_path(paths, ISTIOD)
    pid = int((bin_folder / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_missing_go_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paths: LabPaths) -> None:
    """The error reports that Go is missing, and names the required version."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramMissing, match=r"Go is not on PATH; 1\.19 or newer"):
        from_go(Store(Entry("hello", "1", "hello", by_go=HELLO), paths), lambda text: None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("echo go version go1.17.13 linux/amd64", r"go is go1\.17\.13; 1\.19 or newer is needed"),
        ("echo 'the game of Go'", r"does not report its version; it printed 'the game of Go'"),
        ("exit 1", r"does not report its version; it printed ''"),
    ],
)
def test_unsuitable_go_is_reported(line: str, message: str, bin_folder: Path, paths: LabPaths) -> None:
    """The error shows what was found, a Go that is too old or another program of that name, and no build starts."""
    write_script(bin_folder, "go", line)
    store = Store(Entry("hello", "1", "hello", by_go=HELLO), paths)
    with pytest.raises(ProgramMissing, match=message):
        from_go(store, lambda text: None)
    assert not store.home.exists()


@pytest.mark.parametrize("what", ["disk", "memory"])
def test_disk_and_memory_are_checked_before_a_build(what: str, bin_folder: Path, paths: LabPaths) -> None:
    """Disk and memory are checked before anything is downloaded."""
    write_script(bin_folder, "go", "echo go version go1.26 linux/amd64")
    how = replace(HELLO, disk=1 << 60) if what == "disk" else replace(HELLO, memory=1 << 60)
    with pytest.raises(StorageError, match=r"the build needs 1152921504\.6 GB"):
        from_go(Store(Entry("hello", "1", "hello", by_go=how), paths), lambda text: None)


def test_error_lists_every_install_source_that_failed(
    bin_folder: Path, paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error lists each install source that was tried, why it failed, and the next step."""
    write_script(bin_folder, "go", "echo go version go1.17 linux/amd64")
    wanted = entry("istiod")
    assert wanted.in_image is not None
    wanted = replace(wanted, in_image=replace(wanted.in_image, image="127.0.0.1:9/istio/pilot:1.29.1"))
    with pytest.raises(ProgramMissing) as failed:
        install(wanted, paths, Progress())
    message = str(failed.value)
    for part in (
        "from PATH: PATH has no pilot-discovery",
        "from its official image: the registry of 127.0.0.1:9/istio/pilot:1.29.1 can't be queried",
        "from its project's release archive: no release archive is known",
        "from its source with Go:",
        "go is go1.17; 1.25 or newer is needed",
        "to install it from its official image, check the network",
        "put pilot-discovery 1.29.1 on PATH yourself",
    ):
        assert part in message
    assert find_program("istiod", paths) is None


def test_install_sources_are_tried_in_the_requested_order(bin_folder: Path, paths: LabPaths) -> None:
    """Each install source is a separate stage, and its failure is reported before the next one is tried."""
    write_script(bin_folder, "pilot-discovery", "echo 1.29.1")
    progress = Progress()
    wanted = replace(ISTIOD, in_image=InImage("127.0.0.1:9/istio/pilot:1", "", "x"))
    assert install(wanted, paths, progress, sources=["image", "path"]).source == "path"
    assert [stage.failed for stage in progress.stages] == [True, False]
    assert len(progress.notes) == 1
    assert "check the network" in progress.notes[0]


def test_requested_source_replaces_an_installed_program(bin_folder: Path, paths: LabPaths) -> None:
    """An installed program is used unless PATH is requested as the source, which replaces it."""
    store = Store(ISTIOD, paths)
    with store.staging() as staging:
        (staging / "files").mkdir()
        write_script(staging / "files", "pilot-discovery", "echo 1.29.1")
        installed = store.put(staging / "files", "go", "here")
    write_script(bin_folder, "pilot-discovery", "echo 1.29.1")
    assert install(ISTIOD, paths, Progress()) == installed == find_program("istiod", paths)
    assert install(ISTIOD, paths, Progress(), sources=["path"]).source == "path"
    found = find_program("istiod", paths)
    assert found is not None
    assert found.source == "path"


def test_lookup_of_a_program_is_fast(bin_folder: Path, paths: LabPaths) -> None:
    """A lookup reads no program: even with one of 200 MB, it takes less than 5 ms."""
    store = Store(ISTIOD, paths)
    with store.staging() as staging:
        (staging / "files").mkdir()
        write_script(staging / "files", "pilot-discovery", "echo 1.29.1")
        os.truncate(staging / "files/pilot-discovery", 200_000_000)
        store.put(staging / "files", "go", "here")
    took = []
    for _ in range(20):
        began = time.perf_counter()
        assert find_program("istiod", paths) is not None
        took.append(time.perf_counter() - began)
    assert sorted(took)[10] < 0.005


def test_unknown_program_lists_the_known_ones() -> None:
    """The error for an unknown program lists the known ones."""
    with pytest.raises(UnknownComponent, match="'istoid'") as unknown:
        entry("istoid")
    assert unknown.value.next_step == f"did you mean 'istiod'? Otherwise use one of {', '.join(names())}"


def test_every_entry_of_the_versions_file_is_valid() -> None:
    """Each entry has at least one install source, a version, and no invalid digest."""
    for name in names():
        one = entry(name)
        assert one.version
        assert one.on_path or one.in_image or one.in_archive or one.by_go
        if one.in_archive:
            assert "{version}" in one.in_archive.url
            assert one.in_archive.checksums.startswith("https://")
        if one.in_image:
            assert one.in_image.digest == "" or len(one.in_image.digest) == len("sha256:") + 64


def test_mirror_keeps_the_pinned_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variable names another registry; the digest stays, unless the variable includes one."""
    table = {"version": "1", "program": "it", "image": "a/it:1", "digest": "sha256:1", "path": "it"}
    versions = {"programs": {"it": table}}
    assert entry("it", versions).in_image == InImage("a/it:1", "sha256:1", "it")
    monkeypatch.setenv("LAB_INSTALL_IMAGE_IT", "mirror:5000/it:1")
    assert entry("it", versions).in_image == InImage("mirror:5000/it:1", "sha256:1", "it")
    monkeypatch.setenv("LAB_INSTALL_IMAGE_IT", "mirror:5000/it:1@sha256:2")
    assert entry("it", versions).in_image == InImage("mirror:5000/it:1", "sha256:2", "it")


def test_waiting_for_another_install_times_out(paths: LabPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits too long for another install fails with an error and the next step."""
    monkeypatch.setattr(stores, "LOCK_WAIT", 0.2)
    done = threading.Event()
    held = threading.Event()

    def hold() -> None:
        with Store(ISTIOD, paths).locked(lambda text: None):
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(10)
        notes: list[str] = []
        with pytest.raises(LabBusy, match="has been installing istiod"), Store(ISTIOD, paths).locked(notes.append):
            pass
        assert notes == ["another lab is installing istiod; waiting for it"]
    finally:
        done.set()
        holder.join()


def test_unwritable_cache_is_reported(paths: LabPaths) -> None:
    """The error names the folder and the next step, and no install source is tried."""
    paths.cache.parent.mkdir(exist_ok=True)
    paths.cache.write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="can't write to") as failed:
        install(ISTIOD, paths, Progress())
    assert "XDG_CACHE_HOME" in failed.value.next_step


def test_each_source_names_the_version_that_it_provides() -> None:
    """Jaeger's image and archive have another release than its last Go module, and every message names its own."""
    jaeger = entry("jaeger")
    assert jaeger.in_image
    assert jaeger.in_archive
    assert jaeger.version_from("image") == jaeger.in_image.image.partition(":")[2]
    assert jaeger.version_from("archive") == jaeger.in_archive.version == jaeger.version_from("path")
    assert jaeger.version_from("go") == jaeger.version != jaeger.version_from("archive")
    assert entry("alertmanager").version_from("debian") == ""
    assert entry("istiod").version_from("path") == entry("istiod").version


def test_install_command_lists_programs_and_prints_json(bin_folder: Path, tmp_path: Path) -> None:
    """`--list` prints what is installed and the sources of the rest; `--json` prints one object and nothing else."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "c"), "XDG_STATE_HOME": str(tmp_path / "s")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    assert "istiod       1.29.1     not installed; available from PATH, or its official image" in run("--list").stdout
    program = write_script(bin_folder, "pilot-discovery", "echo 1.29.7")
    installed = run("istiod", "--from", "path", "--json")
    assert json.loads(installed.stdout)["path"] == str(program)
    assert "done" in installed.stderr
    assert json.loads(run("--list", "--json").stdout)["istiod"]["source"] == "path"
    assert f"{program} (from {program})" in run().stdout
    unknown = run("postgres")
    assert unknown.returncode == 1
    assert f"use one of {', '.join(names())}" in unknown.stderr


def test_apt_source_downloads_missing_package_lists(tmp_path: Path) -> None:
    """If apt has no package lists, as on a new machine, they are downloaded, and the machine still has none."""
    if not shutil.which("apt-get"):
        pytest.skip("NOT RUN: this is no Debian")
    empty = tmp_path / "apt.conf"
    empty.write_text(f'Dir::State::lists "{tmp_path}/no-lists";\n')
    lines = (
        "from pathlib import Path",
        "from labstack.install.sources import apt",
        "print(*apt.download(['hostname'], Path.cwd()))",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path,
        env={**os.environ, "APT_CONFIG": str(empty)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name.startswith("hostname_")
    assert not list((tmp_path / "no-lists").glob("*Packages*"))
