"""Installation of a program from a release archive on a local web server, and the archives that are rejected."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labstack.config.paths import LabPaths
from labstack.errors import ProgramMissing
from labstack.install import Entry, Program, install
from labstack.install.catalogue import InArchive
from labstack.install.store import GROWING, Store
from labstack.install.trouble import Refused
from labstack.progress import Progress

SCRIPT = b"#!/bin/sh\necho tool 1.2.3\n"
ARCHIVE = "tool-1.2.3.tar.gz"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder on loopback; yield the folder and its address."""
    folder = tmp_path / "releases"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def paths(tmp_path: Path) -> LabPaths:
    """The folders of a separate lab."""
    return LabPaths(tmp_path / "state", tmp_path / "cache")


def release(folder: Path, *, top: str = "tool-1.2.3", members: dict[str, bytes] | None = None) -> bytes:
    """Write an archive as projects release them, and return the program in it."""
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for name, content in (members or {f"{top}/bin/tool": SCRIPT, f"{top}/LICENSE": b"free"}).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if content == SCRIPT else 0o644
            archive.addfile(member, io.BytesIO(content))
    return SCRIPT


def publish(folder: Path, **sums: bytes) -> None:
    lines = [f"{hashlib.sha256(content).hexdigest()} *{name}" for name, content in sums.items()]
    (folder / "sums.txt").write_text("\n".join(lines) + "\n")


def wanted(address: str, path: str = "bin/tool", program: str = "tool") -> Entry:
    how = InArchive(f"{address}/tool-{{version}}.tar.gz", f"{address}/sums.txt", path)
    return Entry("tool", "1.2.3", program, in_archive=how)


def get(one: Entry, paths: LabPaths) -> Program:
    return install(one, paths, Progress(), ways=["archive"])


def says(program: Program) -> str:
    return subprocess.run([program.path], capture_output=True, text=True, check=True).stdout.strip()


def nothing_is_there(one: Entry, paths: LabPaths) -> bool:
    store = Store(one, paths)
    return store.find() is None and not store.folder.exists() and not list(store.home.glob(f"{GROWING}*"))


def test_a_program_comes_out_of_an_archive_whose_sum_is_published(shown: tuple[Path, str], paths: LabPaths) -> None:
    """Only the required file is installed, under its name in the lab, and its record has the archive's address."""
    folder, address = shown
    release(folder)
    publish(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    program = get(wanted(address, program="the-tool"), paths)
    assert says(program) == "tool 1.2.3"
    assert (program.path.name, program.source, program.origin) == ("the-tool", "archive", f"{address}/{ARCHIVE}")
    assert sorted(path.name for path in program.path.parent.iterdir()) == ["the-tool"]


def test_a_whole_folder_comes_out_of_an_archive(shown: tuple[Path, str], paths: LabPaths) -> None:
    """The whole folder is installed, whatever its name; Grafana needs it, since it reads pages beside its program."""
    folder, address = shown
    release(folder, top="tool-v1.2.3")
    publish(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    program = get(wanted(address, path="", program="tool/bin/tool"), paths)
    assert says(program) == "tool 1.2.3"
    assert (program.path.parents[1] / "LICENSE").read_bytes() == b"free"


def test_sums_of_the_files_in_the_archive_will_do(shown: tuple[Path, str], paths: LabPaths) -> None:
    """A checksum of each file replaces the archive's, since Jaeger publishes only those."""
    folder, address = shown
    publish(folder, **{"tool-1.2.3/bin/tool": release(folder)})
    assert says(get(wanted(address), paths)) == "tool 1.2.3"


@pytest.mark.parametrize("named", [ARCHIVE, "tool-1.2.3/bin/tool"])
def test_another_sum_than_the_published_one_is_refused(named: str, shown: tuple[Path, str], paths: LabPaths) -> None:
    """Nothing is installed if the archive or the program in it was changed."""
    folder, address = shown
    release(folder)
    publish(folder, **{named: b"what was released"})
    with pytest.raises(Refused, match="SHA-256"):
        get(wanted(address), paths)
    assert nothing_is_there(wanted(address), paths)


def test_an_archive_without_a_published_sum_is_not_fetched(shown: tuple[Path, str], paths: LabPaths) -> None:
    """Without a published checksum, the archive is not downloaded, and another install source may be tried.

    A network's login page may be in place of the checksums, for example.
    """
    folder, address = shown
    release(folder)
    for text in ("<html>log in</html>", "", f"{'0' * 64} *another-file"):
        (folder / "sums.txt").write_text(text)
        with pytest.raises(ProgramMissing, match=f"No SHA-256 of {ARCHIVE} is published"):
            get(wanted(address), paths)
    assert nothing_is_there(wanted(address), paths)


def test_a_sum_alone_is_that_of_the_archive(shown: tuple[Path, str], paths: LabPaths) -> None:
    """A checksum without a file name is the archive's, since Grafana publishes only that."""
    folder, address = shown
    release(folder)
    (folder / "sums.txt").write_text(hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest() + "\n")
    assert says(get(wanted(address), paths)) == "tool 1.2.3"
    (folder / "sums.txt").write_text("0" * 64)
    with pytest.raises(Refused, match="SHA-256"):
        get(replace(wanted(address), name="again"), paths)


def test_a_proxy_that_can_not_be_used_is_told(
    shown: tuple[Path, str], paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that can't be used, as in some desktop settings, is reported as an error."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(ProgramMissing, match="the proxy of this machine can't be used"):
        get(wanted("https://example.invalid"), paths)


def test_an_archive_with_a_way_out_is_refused(shown: tuple[Path, str], paths: LabPaths, tmp_path: Path) -> None:
    """A file whose name leads out of the folder is never written."""
    folder, address = shown
    release(folder, members={"tool-1.2.3/../../../../escaped": SCRIPT, "tool-1.2.3/bin/tool": SCRIPT})
    publish(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    with pytest.raises(Refused):
        get(wanted(address), paths)
    assert list(tmp_path.rglob("escaped")) == []
    assert nothing_is_there(wanted(address), paths)


def test_what_is_no_archive_is_refused(shown: tuple[Path, str], paths: LabPaths) -> None:
    """A file that is not an archive is rejected even with a valid checksum; it may be a network's login page."""
    folder, address = shown
    (folder / ARCHIVE).write_bytes(b"<html>")
    publish(folder, **{ARCHIVE: b"<html>"})
    with pytest.raises(Refused, match="can't be unpacked"):
        get(wanted(address), paths)


def test_a_server_that_does_not_have_it(shown: tuple[Path, str], paths: LabPaths) -> None:
    """The error has the address and the server's response, or the reason why there is none."""
    folder, address = shown
    with pytest.raises(ProgramMissing, match=r"sums.txt can't be downloaded: 404"):
        get(wanted(address), paths)
    publish(folder, **{ARCHIVE: b""})
    with pytest.raises(ProgramMissing, match=rf"{ARCHIVE} can't be downloaded: 404"):
        get(wanted(address), paths)
    with pytest.raises(ProgramMissing, match="can't be downloaded: "):
        get(wanted("http://127.0.0.1:9"), paths)


def test_an_archive_that_is_laid_out_anew(shown: tuple[Path, str], paths: LabPaths) -> None:
    """The error names the program that the archive should have."""
    folder, address = shown
    release(folder)
    publish(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    with pytest.raises(ProgramMissing, match="has no program sbin/tool"):
        get(wanted(address, path="sbin/tool"), paths)
