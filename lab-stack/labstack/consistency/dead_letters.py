"""Dead letters: records that a service has dead-lettered, read from the services' own databases.

The service also publishes each to ``SERVICE.dlq``; only the database has the current state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from labstack.arguments import Seconds, checked_class
from labstack.backends.base import Endpoints
from labstack.clients import http
from labstack.clients.databases import connect
from labstack.errors import LabError, NotRunning, one_of
from labstack.waiting import poll_until


@dataclass(frozen=True)
class DeadLetter:
    """A record that a service has dead-lettered.

    Attributes
    ----------
    id : str
        Service and number of the record in that service, such as ``payment-12``.
    service : str
        Service that dead-lettered the record.
    order_id : str or None
        Key of the record.
    type : str
        Type of the event; empty if the header is missing.
    topic, partition, offset
        Position of the record in Kafka.
    attempts : int
        Number of attempts to handle it.
    error : str
        Error of the last attempt.
    behind : int
        Number of later records of the order that wait behind it.
    since : datetime
        Time of the first failure.
    headers : dict
        Headers of the record.
    payload : str
        Value of the record as text: the first 100,000 bytes; empty if the service stored only a stub of the record.
    """

    id: str
    service: str
    order_id: str | None
    type: str
    topic: str
    partition: int
    offset: int
    attempts: int
    error: str
    behind: int
    since: datetime
    headers: dict[str, str] = field(default_factory=dict)
    payload: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the dead letter as a dictionary that can be encoded as JSON."""
        return {**self.__dict__, "since": self.since.isoformat()}


_DEAD = """
    SELECT parking_id, key, topic, partition, "offset", attempts, error, parked_at, headers,
        substring(value FOR 100000) AS value, (SELECT count(*) FROM parked_records AS later
                  WHERE later.key = it.key AND later.parking_id > it.parking_id) AS behind
    FROM parked_records AS it WHERE it.state = 'dead' ORDER BY it.parking_id
"""


@checked_class
class DeadLetters:
    """The dead letters of one lab.

    Parameters
    ----------
    endpoints : callable
        Returns the endpoints of the running lab.
    """

    def __init__(self, endpoints: Callable[[], Endpoints]) -> None:
        self._endpoints = endpoints

    def all(self) -> list[DeadLetter]:
        """Return the records that services have dead-lettered, and not resolved since."""
        return dead_letters(self._endpoints())

    def replay(self, letter_id: str, timeout: Seconds = 30) -> DeadLetter | None:
        """Send a dead letter back to its service; return None once it is handled, else the letter, dead again.

        Parameters
        ----------
        letter_id : str
            ID of the dead letter.
        timeout : float
            Seconds to wait for the service.

        Raises
        ------
        LabError
            No dead letter has this ID, or the service takes longer than `timeout` seconds.
        """
        return replay(self._endpoints(), letter_id, timeout)

    def discard(self, letter_id: str) -> None:
        """Drop a dead letter permanently; the records that wait behind it follow.

        Raises
        ------
        LabError
            No dead letter has this ID.
        """
        discard(self._endpoints(), letter_id)


def dead_letters(where: Endpoints) -> list[DeadLetter]:
    """Return all dead letters, the oldest of each service first.

    Raises
    ------
    NotRunning
        A database can't be reached.
    """
    return [letter for service, url in where.databases.items() for letter in _of_service(service, url)]


def _of_service(service: str, url: str) -> Iterable[DeadLetter]:
    try:
        with connect(url, timeout=3, row_factory=dict_row) as connection:
            rows = connection.execute(_DEAD).fetchall()
    except psycopg.Error as error:
        raise NotRunning(
            f"The database of {service} can't be reached: {error}", next_step=f"run `lab start {service}-db`"
        ) from error
    for row in rows:
        yield DeadLetter(
            id=f"{service}-{row['parking_id']}",
            service=service,
            order_id=row["key"],
            type=row["headers"].get("ce_type", ""),
            topic=row["topic"],
            partition=row["partition"],
            offset=row["offset"],
            attempts=row["attempts"],
            error=row["error"] or "",
            behind=row["behind"],
            since=row["parked_at"],
            headers=row["headers"],
            payload=bytes(row["value"] or b"").decode("utf-8", "replace"),
        )


def find(where: Endpoints, letter_id: str) -> DeadLetter:
    """Return one dead letter.

    Raises
    ------
    LabError
        No dead letter has this ID; the message lists the existing ones.
    """
    every = dead_letters(where)
    for letter in every:
        if letter.id == letter_id:
            return letter
    ids = [letter.id for letter in every]
    raise LabError(
        f"Unknown dead letter {letter_id!r}.",
        next_step=one_of(letter_id, ids, otherwise="no action needed: the lab has no dead letters"),
    )


def replay(where: Endpoints, letter_id: str, timeout: float = 30) -> DeadLetter | None:
    """Send a dead letter back to its service, and wait for the result.

    Parameters
    ----------
    where : Endpoints
        Endpoints of the lab.
    letter_id : str
        ID of the dead letter.
    timeout : float
        Seconds to wait.

    Returns
    -------
    DeadLetter or None
        None if the service has handled it; the records that waited behind it follow. Otherwise the letter, dead again,
        with the new error.

    Raises
    ------
    LabError
        No dead letter has this ID, or the service does not answer or times out.
    """
    letter = find(where, letter_id)
    _send_command(where, letter, "replay")
    with connect(where.databases[letter.service], autocommit=True, timeout=3) as connection:

        def state() -> str | None:
            number = letter.id.rsplit("-", 1)[1]
            query = "SELECT state FROM parked_records WHERE parking_id = %s"
            row = connection.execute(query, [number]).fetchone()
            return row[0] if row else None

        if not poll_until(lambda: state() in (None, "dead"), timeout, interval=0.05):
            raise LabError(
                f"{letter.service} has not finished the replay of {letter_id} within {timeout:.0f} s.",
                next_step=f"look at `lab status` and `lab logs {letter.service}`; the replay continues by itself",
            )
        return find(where, letter_id) if state() == "dead" else None


def discard(where: Endpoints, letter_id: str) -> None:
    """Drop a dead letter permanently; the records that wait behind it follow.

    Raises
    ------
    LabError
        No dead letter has this ID, or the service does not answer.
    """
    _send_command(where, find(where, letter_id), "discard")


def _send_command(where: Endpoints, letter: DeadLetter, verb: str) -> None:
    number = letter.id.rsplit("-", 1)[1]
    try:
        url = f"{where.services[letter.service]}/manage/dead-letters/{number}/{verb}"
        http.request("POST", url, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise LabError(
            f"{letter.service} did not {verb} {letter.id}: {error}.",
            next_step=f"look at `lab status`; if {letter.service} is down, run `lab start {letter.service}`",
        ) from error
