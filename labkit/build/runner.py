"""Run a learner's file in a separate process, write a journal of what it does, and crash or hold it at a point.

``python runner.py ORDER.json FILE`` runs FILE as a program, or calls one of its functions (see `Assignment`). It wraps
psycopg and confluent-kafka before the file imports them, so the file stays plain. The script imports nothing of the
lab, because the imports would take longer than the file's own work.

Each passage of a point is a line of the journal. ``before-`` and ``after-`` surround each of these:

* ``read``, ``write``: a statement that reads or changes rows; the detail is its text
* ``commit``: the commit of a transaction that changed rows
* ``produce``, ``flush``: of a producer; the detail is the topic and the key
* ``offset-commit``: the commit of offsets by a consumer

Others happen at one moment: ``connect``, ``connect-failed``, ``rollback``, ``subscribe``, ``poll`` (of a record; the
detail is its topic, partition, offset and key), ``pause``, ``resume``, ``close``, ``consumer`` (the detail is its
configuration), ``call`` and ``return`` of the function, and ``start`` and ``end`` of the process.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import psycopg

SESSION = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 500, "auto.commit.interval.ms": 200}
"""Settings of a consumer that sets none: a killed member leaves its group after 3 s instead of 45 s, as in the shop's
services, and an automatic commit follows after 0.2 s instead of 5 s."""

WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE")
INTERNAL = ("pg_catalog", "pg_type", "current_schema()")
"""Parts of the queries with which a driver looks at the server."""

ESSENTIAL_SETTINGS = ("group.id", "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset")


@dataclass
class Assignment:
    """What to do with the file.

    Attributes
    ----------
    journal : str
        Path of the journal.
    crash : str
        ``POINT`` or ``POINT:N``: kill the process with SIGKILL when it passes the point (for the N-th time).
    hold : dict
        Paths by ``POINT`` or ``POINT:N``: wait there until the path exists.
    function : str
        Name of the function to call; empty to run the file as a program.
    calls : list
        The arguments of each call.
    threads : int
        Number of calls at the same time.
    results : str
        Path to which each finished call adds a line.
    """

    journal: str
    crash: str = ""
    hold: dict[str, str] = field(default_factory=dict)
    function: str = ""
    calls: list[list[Any]] = field(default_factory=list)
    threads: int = 1
    results: str = ""

    def write(self, path: Path) -> None:
        """Write the order to a file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


class Journal:
    """Writes the passages of points; crashes and holds the process where its order says so."""

    def __init__(self, order: Assignment) -> None:
        self._file = os.open(order.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._crash = _point(order.crash)
        self._holds = {_point(name): path for name, path in order.hold.items()}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def passes(self, point: str, detail: Any = "") -> None:
        """Record that the process passes a point."""
        with self._lock:
            self._counts[point] += 1
            passage = (point, self._counts[point])
            self._write(point, detail)
            if passage == self._crash:
                self._write("crash", point)
                os.kill(os.getpid(), signal.SIGKILL)
        if release := self._holds.get(passage):
            self._write("held", point)
            while not os.path.exists(release):
                time.sleep(0.005)

    @contextmanager
    def around(self, action: str, detail: Any = "") -> Iterator[None]:
        """Record what happens before and after an action that succeeds."""
        self.passes(f"before-{action}", detail)
        yield
        self.passes(f"after-{action}", detail)

    def _write(self, point: str, detail: Any) -> None:
        line = {"at": time.time(), "point": point, "detail": detail, "thread": threading.get_ident()}
        os.write(self._file, (json.dumps(line, default=str) + "\n").encode())


def _point(name: str) -> tuple[str, int]:
    point, _, count = name.partition(":")
    return point, int(count or 1)


def watch_database(journal: Journal) -> None:
    """Wrap psycopg, which SQLAlchemy uses, too."""
    connect, commit, rollback = psycopg.Connection.connect, psycopg.Connection.commit, psycopg.Connection.rollback
    changed: set[int] = set()

    def watched_connect(*args: Any, **keywords: Any) -> psycopg.Connection[Any]:
        try:
            connection = connect(*args, **keywords)
        except psycopg.Error as error:
            journal.passes("connect-failed", str(error))
            raise
        journal.passes("connect")
        return connection

    def watched_commit(self: psycopg.Connection[Any]) -> None:
        if id(self) not in changed:
            return commit(self)
        with journal.around("commit"):
            commit(self)
            changed.discard(id(self))
        return None

    def watched_rollback(self: psycopg.Connection[Any]) -> None:
        rollback(self)
        if id(self) in changed:
            changed.discard(id(self))
            journal.passes("rollback")

    def watched(execute: Callable[..., Any]) -> Callable[..., Any]:
        def watched_execute(self: psycopg.Cursor[Any], query: Any, *args: Any, **keywords: Any) -> Any:
            text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else _as_text(query)
            first = (text.split(None, 1) or [""])[0].upper()
            if first not in (*WRITES, "WITH", "SELECT") or any(word in text for word in INTERNAL):
                return execute(self, query, *args, **keywords)
            is_write = any(word in text.upper() for word in WRITES) if first == "WITH" else first in WRITES
            with journal.around("write" if is_write else "read", " ".join(text.split())[:300]):
                if is_write:
                    changed.add(id(self.connection))
                return execute(self, query, *args, **keywords)

        return watched_execute

    psycopg.Connection.connect = watched_connect  # type: ignore[method-assign]
    psycopg.connect = watched_connect
    psycopg.Connection.commit = watched_commit  # type: ignore[method-assign]
    psycopg.Connection.rollback = watched_rollback  # type: ignore[method-assign]
    for cursor in (psycopg.Cursor, psycopg.ClientCursor, psycopg.ServerCursor):
        for name in ("execute", "executemany"):
            if name in vars(cursor):
                setattr(cursor, name, watched(vars(cursor)[name]))


def _as_text(query: Any) -> str:
    return str(query.as_string(None))


def watch_kafka(journal: Journal) -> None:
    """Replace the producer and the consumer of confluent-kafka by subclasses that write the journal."""

    class Producer(confluent_kafka.Producer):
        """A producer that writes the journal."""

        def produce(self, topic: str, value: Any = None, key: Any = None, *args: Any, **keywords: Any) -> None:
            with journal.around("produce", {"topic": topic, "key": _text(key)}):
                super().produce(topic, value, key, *args, **keywords)

        def flush(self, *args: Any, **keywords: Any) -> int:
            with journal.around("flush"):
                return super().flush(*args, **keywords)

    class Consumer(confluent_kafka.Consumer):
        """A consumer that writes the journal."""

        def __init__(self, *args: Any, **keywords: Any) -> None:
            config = {**SESSION, **(args[0] if args and isinstance(args[0], Mapping) else {})}
            given = {**config, **{name: value for name, value in keywords.items() if "." in name}}
            journal.passes("consumer", {name: given.get(name) for name in ESSENTIAL_SETTINGS})
            super().__init__(config, *args[1:], **keywords)

        def subscribe(self, topics: list[str], *args: Any, **keywords: Any) -> None:
            callbacks = sorted(name for name, value in keywords.items() if value)
            journal.passes("subscribe", {"topics": topics, "callbacks": callbacks})
            super().subscribe(topics, *args, **keywords)

        def poll(self, *args: Any, **keywords: Any) -> Any:
            message = super().poll(*args, **keywords)
            _note(message)
            return message

        def consume(self, *args: Any, **keywords: Any) -> list[Any]:
            messages = super().consume(*args, **keywords)
            for message in messages:
                _note(message)
            return messages

        def commit(self, *args: Any, **keywords: Any) -> Any:
            with journal.around("offset-commit"):
                return super().commit(*args, **keywords)

        def pause(self, partitions: list[Any]) -> None:
            super().pause(partitions)
            journal.passes("pause", [[p.topic, p.partition] for p in partitions])

        def resume(self, partitions: list[Any]) -> None:
            super().resume(partitions)
            journal.passes("resume", [[p.topic, p.partition] for p in partitions])

        def close(self) -> None:
            super().close()
            journal.passes("close")

    def _note(message: Any) -> None:
        if message is not None and message.error() is None:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            journal.passes("poll", {**place, "key": _text(message.key())})

    confluent_kafka.Producer = Producer  # type: ignore[misc]
    confluent_kafka.Consumer = Consumer  # type: ignore[misc]


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def end_with_starter() -> None:
    """End this process as soon as the process that started it ends: then its standard input is closed."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def call_function(order: Assignment, function: Callable[..., Any], journal: Journal) -> None:
    """Make all calls of an order, and write a line for each when it has returned or raised."""
    results = os.open(order.results, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    together = threading.Barrier(min(order.threads, len(order.calls)))

    def call(number: int, arguments: Sequence[Any]) -> None:
        if number < together.parties:
            together.wait()
        result: dict[str, Any] = {"call": number}
        journal.passes("call", number)
        try:
            result["value"] = function(*arguments)
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        journal.passes("return", number)
        os.write(results, (json.dumps(result, default=str) + "\n").encode())

    with ThreadPoolExecutor(together.parties) as pool:
        list(pool.map(call, range(len(order.calls)), order.calls))


def main() -> None:
    """Read the order, and run the file."""
    order = Assignment(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    file = Path(sys.argv[2])
    end_with_starter()
    journal = Journal(order)
    watch_database(journal)
    watch_kafka(journal)
    sys.path.insert(0, str(file.parent))
    sys.argv = [str(file)]
    journal.passes("start")
    if not order.function:
        runpy.run_path(str(file), run_name="__main__")
    else:
        names = runpy.run_path(str(file), run_name=file.stem)
        if not callable(names.get(order.function)):
            sys.exit(f"{file.name} defines no function {order.function}")
        call_function(order, names[order.function], journal)
    journal.passes("end")


if __name__ == "__main__":
    main()
