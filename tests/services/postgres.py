"""A PostgreSQL server for tests: the wheel's programs, run as a child process that ends with the test run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

from labstack.backends.processes.components.postgres import programs
from tests.services.ports import free_port

NOBODY = 65534


class PostgresServer:
    """One server with a separate data folder, available at ``url(database)``."""

    def __init__(self, folder: Path, primary: PostgresServer | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.settings: dict[str, object] = {}
        """Settings beyond the usual ones, for the next start."""
        self._process: subprocess.Popen[bytes] | None = None
        if primary:
            self._run("pg_basebackup", "-D", self.data, "-d", primary.url("postgres"), "-R", "-c", "fast", "--no-sync")
            return
        self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_replication_slots": 64,
            "fsync": "off",
            "dynamic_shared_memory_type": "mmap",  # a killed server leaves it behind, and this folder is removed
            "shared_buffers": "32MB",
            "max_connections": 100,
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            command = [*self._prefix(), str(programs() / "postgres"), "-D", str(self.data), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 20
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server, by default at once, like a crash; it can be started again."""
        if self._process:
            self._run("pg_ctl", "stop", "-D", self.data, "-m", mode)
            self._process.wait(20)
            self._process = None

    def follow(self, primary: PostgresServer) -> None:
        """Make this stopped server a standby of another one."""
        self.settings["primary_conninfo"] = primary.url("postgres")
        (self.data / "standby.signal").touch()

    def promote(self) -> None:
        """Make this standby a primary."""
        self._run("pg_ctl", "promote", "-D", self.data, "-w")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze every process of the server for a block, so that the server exists but does not respond."""
        assert self._process
        main = psutil.Process(self._process.pid)
        family = [main, *main.children(recursive=True)]
        for one in family:
            one.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for one in family:
                one.send_signal(signal.SIGCONT)

    def create_database(self, name: str) -> str:
        """Create an empty database, and return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def _prefix(self) -> list[str]:
        # PostgreSQL refuses to run as root; in a user namespace it is another user, with root's rights to our files.
        return ["unshare", "-U", f"--map-user={NOBODY}", f"--map-group={NOBODY}"] if os.geteuid() == 0 else []

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._prefix(), programs() / program, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for a block, and remove its files afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="saga-lab-test-"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
