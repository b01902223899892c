"""Where a learner's service runs: a database, topics, groups and processes that no other run uses."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from psycopg.rows import dict_row

from labkit.build.program import CallResult, LearnerProcess, ProgramFailed
from labkit.build.runner import Assignment
from labkit.errors import running
from labstack import Lab
from labstack.backends.processes.process import MARKER
from labstack.clients import broker, consumer_groups, practice
from labstack.clients.broker import FAST_RECONNECT, Record
from labstack.clients.database_server import ADMINISTRATOR, RELAY, DatabaseServer
from labstack.clients.databases import connect
from labstack.config.environment import clean
from labstack.errors import LabError
from labstack.lab import access_of

DATABASE = "returns"
"""The start of the name of every workplace, and of everything in it."""

HOST = "shipping"
"""The service whose database server holds the databases of the workplaces."""


class Workplace:
    """A database, topics and groups with unique names, and the processes that use them.

    Two workplaces in one lab do not affect each other. Use it as a context manager, or call `close`.

    Parameters
    ----------
    lab : Lab
        The running lab.
    file : Path
        The learner's file.
    name : str, optional
        The database's name, which starts the names of topics and groups; default: a new one.

    Attributes
    ----------
    environment : dict
        The settings that every process of the file gets as environment variables: ``DATABASE_URL`` (for SQLAlchemy,
        with the driver psycopg), ``KAFKA_BOOTSTRAP`` and ``CONNECT_URL``; a trial adds others, such as the name of a
        topic.
    """

    def __init__(self, lab: Lab, file: Path, name: str = "") -> None:
        self.lab = lab
        self.file = file
        self.name = name or DATABASE + secrets.token_hex(3)
        endpoints = running(lab)
        self.kafka, self.connect_url = endpoints.kafka, endpoints.connect
        self._folder = Path(tempfile.mkdtemp(prefix="saga-lab-build-"))
        self._programs: list[LearnerProcess] = []
        self._groups: set[str] = set()
        lab.extensions.create(self.name, HOST)
        self.database_url: str = lab.extensions.databases[self.name]
        self.environment = {
            "DATABASE_URL": self.database_url.replace("postgresql://", "postgresql+psycopg://"),
            "KAFKA_BOOTSTRAP": self.kafka,
            "CONNECT_URL": self.connect_url,
        }

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- the database ----------------------------------------------------------------------------------------------

    @property
    def server(self) -> DatabaseServer:
        """The database server, as this machine reaches it."""
        return access_of(self.lab).backend().database_server(HOST)

    @property
    def connection(self) -> dict[str, str]:
        """The settings with which a Debezium connector reaches the database; Connect has the password in a file."""
        server = self.lab.extensions.server_for_connect(self.name)
        return {
            "database.hostname": server.host,
            "database.port": str(server.port),
            "database.user": RELAY,
            "database.dbname": self.name,
        }

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query; ``%s`` stands for each value.

        Raises
        ------
        ProgramFailed
            The database rejects the query, usually because the learner's file did not create the table or the column.
        """
        try:
            with connect(self.database_url, row_factory=dict_row) as connection:
                return connection.execute(query.encode(), values or None).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            reason = str(error).splitlines()[0]
            raise ProgramFailed(
                f"The judge reads {query!r}, but {reason}.",
                next_step="compare your tables with the requirements, then run this cell again",
            ) from None

    def execute(self, *statements: str) -> None:
        """Execute statements as the database's owner, each in a separate transaction."""
        with connect(self.database_url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def waits_for_lock(self, program: LearnerProcess) -> bool:
        """Report whether a database session of a process waits for a lock that another session holds."""
        query = "SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
        return bool(self.rows(query, program.folder.name))

    def empty(self) -> None:
        """Drop every table of the database; processes that use them get errors."""
        self.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO PUBLIC")

    @contextmanager
    def database_unavailable(self) -> Iterator[None]:
        """Refuse every connection to the database during the block, and end those that are open."""
        with connect(self.server.url(ADMINISTRATOR, "postgres"), autocommit=True) as administrator:
            administrator.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false".encode())
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name]
            )
            try:
                yield
            finally:
                administrator.execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true".encode())

    # -- Kafka -----------------------------------------------------------------------------------------------------

    def topic(self, purpose: str, partitions: int = 3) -> str:
        """Create a topic, and return its name: the workplace's name, a dot and the purpose."""
        return practice.make_topic(self.kafka, partitions, f"{self.name}.{purpose}")

    def group(self, purpose: str) -> str:
        """Return the name of a consumer group, which is deleted with the workplace."""
        name = f"{self.name}.{purpose}"
        self._groups.add(name)
        return name

    def records(self, topic: str) -> list[Record]:
        """Return all records of a topic, sorted by partition and offset."""
        found = broker.read_all(self.kafka, [topic])
        return sorted(found, key=lambda record: (record.partition, record.offset))

    def produce(
        self,
        topic: str,
        value: str | bytes | None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        partition: int | None = None,
    ) -> None:
        """Write one record, and return when the broker has it."""
        self.produce_all(topic, [(value, key, headers or {}, partition)])

    def produce_all(
        self, topic: str, records: Sequence[tuple[str | bytes | None, str | None, Mapping[str, str], int | None]]
    ) -> None:
        """Write records of the form (value, key, headers, partition), and return when the broker has them all."""
        # Kafka's own partitioner, as Debezium uses it.
        producer = Producer({"bootstrap.servers": self.kafka, "partitioner": "murmur2_random", **FAST_RECONNECT})
        for value, key, headers, partition in records:
            where: dict[str, Any] = {} if partition is None else {"partition": partition}
            producer.produce(topic, value=value, key=key, headers=dict(headers), **where)
        if unsent := producer.flush(15):
            raise LabError(f"{unsent} records were not written to {topic}.", next_step="look at `lab logs kafka`")

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offsets that a group has committed in a topic, by partition."""
        found = consumer_groups.committed_offsets(self.kafka, group)
        return {partition: offset for (name, partition), offset in found.items() if name == topic}

    # -- the learner's file ----------------------------------------------------------------------------------------

    def start(
        self, *, file: Path | None = None, crash: str = "", hold: Sequence[str] = (), **environment: str
    ) -> LearnerProcess:
        """Start the learner's file as a program, and return without waiting.

        Parameters
        ----------
        file : Path, optional
            Another file than the learner's.
        crash : str, optional
            ``POINT`` or ``POINT:N``: the process is killed there (see `labkit.build.runner` for the points).
        hold : sequence of str
            Points at which the process waits until `LearnerProcess.release` is called with the same text.
        environment : str
            Additional environment variables.
        """
        return self._start(file, Assignment("", crash, dict.fromkeys(hold, "")), environment)

    def start_call(
        self,
        function: str,
        *calls: Sequence[Any],
        threads: int = 1,
        crash: str = "",
        hold: Sequence[str] = (),
        file: Path | None = None,
    ) -> LearnerProcess:
        """Start a process that calls a function of the learner's file, and return without waiting.

        Parameters
        ----------
        function : str
            Its name.
        calls : sequence
            The arguments of each call, which JSON can represent; without any, the function is called once.
        threads : int
            The number of calls at the same time.
        crash, hold, file
            See `start`.
        """
        arguments = [list(one) for one in calls] or [[]]
        order = Assignment("", crash, dict.fromkeys(hold, ""), function, arguments, threads)
        return self._start(file, order, environment={})

    def call(
        self, function: str, *calls: Sequence[Any], threads: int = 1, timeout: float = 60, file: Path | None = None
    ) -> list[CallResult]:
        """Call a function of the learner's file in a new process, and return what each call returned or raised.

        Parameters
        ----------
        function, calls, threads, file
            See `start_call`.
        timeout : float
            Seconds.

        Raises
        ------
        ProgramFailed
            The process failed outside of the function, or did not end in time.
        """
        program = self.start_call(function, *calls, threads=threads, file=file)
        if status := program.wait(timeout):
            raise program.failure(f"ended with status {status}")
        return program.results

    def _start(self, file: Path | None, order: Assignment, environment: Mapping[str, str]) -> LearnerProcess:
        variables = clean({**self.environment, **environment, "PYTHONUNBUFFERED": "1"})
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        marker = self.lab.extensions.marker(self.name)
        program = LearnerProcess(
            file or self.file, order, {**variables, "PGAPPNAME": folder.name, MARKER: marker}, folder
        )
        self._programs.append(program)
        return program

    def close(self) -> None:
        """End the processes, and delete the database, topics, groups and files of this workplace."""
        for program in self._programs:
            program.close()
        self.lab.extensions.remove(self.name)
        for group in self._groups:
            with contextlib.suppress(LabError):
                consumer_groups.delete_group(self.kafka, group)
        shutil.rmtree(self._folder, ignore_errors=True)
