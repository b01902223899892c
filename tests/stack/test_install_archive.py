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
from labstack.install.errors import VerificationFailed
from labstack.install.store import PARTIAL, Store
from labstack.progress import Progress

SCRIPT = b"#!/bin/sh\necho tool 1.2.3\n"
ARCHIVE = "tool-1.2.3.tar.gz"


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def release_server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder on loopback; yield the folder and its address."""
    folder = tmp_path / "releases"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
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


def write_archive(folder: Path, *, top: str = "tool-1.2.3", members: dict[str, bytes] | None = None) -> bytes:
    """Write an archive as projects release them, and return the program in it."""
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        for name, content in (members or {f"{top}/bin/tool": SCRIPT, f"{top}/LICENSE": b"free"}).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if content == SCRIPT else 0o644
            archive.addfile(member, io.BytesIO(content))
    return SCRIPT


def write_checksums(folder: Path, **sums: bytes) -> None:
    lines = [f"{hashlib.sha256(content).hexdigest()} *{name}" for name, content in sums.items()]
    (folder / "sums.txt").write_text("\n".join(lines) + "\n")


def archive_entry(address: str, path: str = "bin/tool", program: str = "tool") -> Entry:
    how = InArchive(f"{address}/tool-{{version}}.tar.gz", f"{address}/sums.txt", path)
    return Entry("tool", "1.2.3", program, in_archive=how)


def install_archive(one: Entry, paths: LabPaths) -> Program:
    return install(one, paths, Progress(), sources=["archive"])


def program_output(program: Program) -> str:
    return subprocess.run([program.path], capture_output=True, text=True, check=True).stdout.strip()


def is_not_installed(one: Entry, paths: LabPaths) -> bool:
    store = Store(one, paths)
    return store.find() is None and not store.folder.exists() and not list(store.home.glob(f"{PARTIAL}*"))


def test_only_the_required_file_is_installed_from_an_archive(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """Only the required file is installed, under its name in the lab, and its record has the archive's address."""
    folder, address = release_server
    write_archive(folder)
    write_checksums(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    program = install_archive(archive_entry(address, program="the-tool"), paths)
    assert program_output(program) == "tool 1.2.3"
    assert (program.path.name, program.source, program.origin) == ("the-tool", "archive", f"{address}/{ARCHIVE}")
    assert sorted(path.name for path in program.path.parent.iterdir()) == ["the-tool"]


def test_whole_folder_is_installed_from_an_archive(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """The whole folder is installed, whatever its name; Grafana needs it, since it reads pages beside its program."""
    folder, address = release_server
    write_archive(folder, top="tool-v1.2.3")
    write_checksums(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    program = install_archive(archive_entry(address, path="", program="tool/bin/tool"), paths)
    assert program_output(program) == "tool 1.2.3"
    assert (program.path.parents[1] / "LICENSE").read_bytes() == b"free"


def test_checksums_of_the_files_in_an_archive_are_accepted(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """A checksum of each file replaces the archive's, since Jaeger publishes only those."""
    folder, address = release_server
    write_checksums(folder, **{"tool-1.2.3/bin/tool": write_archive(folder)})
    assert program_output(install_archive(archive_entry(address), paths)) == "tool 1.2.3"


@pytest.mark.parametrize("named", [ARCHIVE, "tool-1.2.3/bin/tool"])
def test_wrong_checksum_is_rejected(named: str, release_server: tuple[Path, str], paths: LabPaths) -> None:
    """Nothing is installed if the archive or the program in it was changed."""
    folder, address = release_server
    write_archive(folder)
    write_checksums(folder, **{named: b"what was released"})
    with pytest.raises(VerificationFailed, match="SHA-256"):
        install_archive(archive_entry(address), paths)
    assert is_not_installed(archive_entry(address), paths)


def test_archive_without_a_published_checksum_is_not_downloaded(
    release_server: tuple[Path, str], paths: LabPaths
) -> None:
    """Without a published checksum, the archive is not downloaded, and another install source may be tried.

    A network's login page may be in place of the checksums, for example.
    """
    folder, address = release_server
    write_archive(folder)
    for text in ("<html>log in</html>", "", f"{'0' * 64} *another-file"):
        (folder / "sums.txt").write_text(text)
        with pytest.raises(ProgramMissing, match=f"No SHA-256 of {ARCHIVE} is published"):
            install_archive(archive_entry(address), paths)
    assert is_not_installed(archive_entry(address), paths)


def test_checksum_without_a_file_name_is_the_archives(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """A checksum without a file name is the archive's, since Grafana publishes only that."""
    folder, address = release_server
    write_archive(folder)
    (folder / "sums.txt").write_text(hashlib.sha256((folder / ARCHIVE).read_bytes()).hexdigest() + "\n")
    assert program_output(install_archive(archive_entry(address), paths)) == "tool 1.2.3"
    (folder / "sums.txt").write_text("0" * 64)
    with pytest.raises(VerificationFailed, match="SHA-256"):
        install_archive(replace(archive_entry(address), name="again"), paths)


def test_unusable_proxy_is_reported(
    release_server: tuple[Path, str], paths: LabPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that can't be used, as in some desktop settings, is reported as an error."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1080")
    with pytest.raises(ProgramMissing, match="the proxy of this machine can't be used"):
        install_archive(archive_entry("https://example.invalid"), paths)


def test_archive_cannot_write_outside_its_folder(
    release_server: tuple[Path, str], paths: LabPaths, tmp_path: Path
) -> None:
    """A file whose name leads out of the folder is never written."""
    folder, address = release_server
    write_archive(folder, members={"tool-1.2.3/../../../../escaped": SCRIPT, "tool-1.2.3/bin/tool": SCRIPT})
    write_checksums(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    with pytest.raises(VerificationFailed):
        install_archive(archive_entry(address), paths)
    assert list(tmp_path.rglob("escaped")) == []
    assert is_not_installed(archive_entry(address), paths)


def test_file_that_is_not_an_archive_is_rejected(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """A file that is not an archive is rejected even with a valid checksum; it may be a network's login page."""
    folder, address = release_server
    (folder / ARCHIVE).write_bytes(b"<html>")
    write_checksums(folder, **{ARCHIVE: b"<html>"})
    with pytest.raises(VerificationFailed, match="can't be unpacked"):
        install_archive(archive_entry(address), paths)


def test_download_error_has_address_and_response(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """The error has the address and the server's response, or the reason why there is none."""
    folder, address = release_server
    with pytest.raises(ProgramMissing, match=r"sums.txt can't be downloaded: 404"):
        install_archive(archive_entry(address), paths)
    write_checksums(folder, **{ARCHIVE: b""})
    with pytest.raises(ProgramMissing, match=rf"{ARCHIVE} can't be downloaded: 404"):
        install_archive(archive_entry(address), paths)
    with pytest.raises(ProgramMissing, match="can't be downloaded: "):
        install_archive(archive_entry("http://127.0.0.1:9"), paths)


def test_missing_program_in_an_archive_is_named(release_server: tuple[Path, str], paths: LabPaths) -> None:
    """The error names the program that the archive should have."""
    folder, address = release_server
    write_archive(folder)
    write_checksums(folder, **{ARCHIVE: (folder / ARCHIVE).read_bytes()})
    with pytest.raises(ProgramMissing, match="has no program sbin/tool"):
        install_archive(archive_entry(address, path="sbin/tool"), paths)
