"""A topic of parcels with its dead letters and its consumer group, and instances of the learner's program."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.build.program import LearnerProcess
from labkit.build.workplace import Workplace
from labstack.clients import consumer_groups
from labstack.clients.broker import Record
from labstack.waiting import poll_until


def new_id() -> str:
    """Return a new id."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Parcel:
    """An event of the warehouse: the goods of a return have arrived."""

    amount_cents: int = 890
    event_id: str = field(default_factory=new_id)
    return_id: str = field(default_factory=new_id)
    order_id: str = field(default_factory=new_id)

    @property
    def value(self) -> str:
        """The record's value."""
        fields = {"return_id": self.return_id, "order_id": self.order_id, "amount_cents": self.amount_cents}
        return json.dumps(fields)

    @property
    def headers(self) -> dict[str, str]:
        """The record's headers."""
        return {"ce_id": self.event_id, "ce_type": "ParcelArrived"}


class PrivateGroup:
    """One consumer group on topics that no other group reads.

    Parameters
    ----------
    place : Workplace
        The workplace.
    name : str
        A name within the workplace.
    partitions : int
        The number of partitions of the topic of parcels.
    attempts : int
        ``MAX_ATTEMPTS`` of the instances.
    retry_seconds : float
        ``RETRY_SECONDS`` of the instances.

    Attributes
    ----------
    settings : dict
        The environment variables of the instances.
    """

    def __init__(
        self, place: Workplace, name: str, partitions: int = 3, attempts: int = 2, retry_seconds: float = 0.2
    ) -> None:
        self._place = place
        self.topic = place.topic(f"{name}.parcels", partitions)
        self.dead_letter_topic = place.topic(f"{name}.dead-letters", 1)
        self.group = place.group(name)
        self.settings = {
            "PARCELS_TOPIC": self.topic,
            "DEAD_LETTER_TOPIC": self.dead_letter_topic,
            "GROUP_ID": self.group,
            "MAX_ATTEMPTS": str(attempts),
            "RETRY_SECONDS": str(retry_seconds),
        }

    def start(self, crash: str = "", hold: Sequence[str] = (), **settings: str) -> LearnerProcess:
        """Start an instance of the learner's program."""
        environment: dict[str, Any] = {**self.settings, **settings}
        return self._place.start(crash=crash, hold=hold, **environment)

    def send(self, *parcels: Parcel, partition: int) -> None:
        """Write parcels into a partition."""
        records = [(parcel.value, parcel.order_id, parcel.headers, partition) for parcel in parcels]
        self._place.produce_all(self.topic, records)

    def refunds(self, parcels: Iterable[Parcel]) -> dict[Parcel, int]:
        """Return the number of refunds of each parcel."""
        rows = self._place.rows("SELECT return_id::text AS return_id FROM refunds")
        found = Counter(row["return_id"] for row in rows)
        return {parcel: found[parcel.return_id] for parcel in parcels}

    def dead_letters(self) -> list[Record]:
        """Return the records of the dead-letter topic."""
        return self._place.records(self.dead_letter_topic)

    def committed(self) -> dict[int, int]:
        """Return the committed offset of each partition."""
        return self._place.committed(self.group, self.topic)

    def lag(self) -> int:
        """Return the number of records that the group has not committed."""
        return sum(consumer_groups.lag(self._place.kafka, self.group, [self.topic]).values())

    def await_refunds(self, parcels: Sequence[Parcel], programs: Sequence[LearnerProcess], timeout: float = 30) -> bool:
        """Wait until each parcel is refunded, and return whether it is.

        The wait ends early if all instances have died, or if the group has committed everything for some seconds and
        a refund is still missing.
        """
        quiet = 0

        def is_over() -> bool:
            nonlocal quiet
            if all(self.refunds(parcels).values()) or not any(program.is_alive for program in programs):
                return True
            quiet = quiet + 1 if self.lag() == 0 else 0
            return quiet > 8

        poll_until(is_over, timeout, interval=0.25)
        return all(self.refunds(parcels).values())

    def await_commits(self, program: LearnerProcess, timeout: float = 20) -> bool:
        """Wait until the group has committed every record, and return whether it has."""
        poll_until(lambda: self.lag() == 0 or not program.is_alive, timeout, interval=0.25)
        return self.lag() == 0


REFUSAL = (
    "CREATE TABLE refused (return_id text PRIMARY KEY)",
    """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (SELECT FROM refused WHERE return_id = NEW.return_id::text) THEN
            RAISE EXCEPTION 'the account of this customer is closed';
        END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER refuse BEFORE INSERT ON refunds FOR EACH ROW EXECUTE FUNCTION refuse()",
)
"""Makes the table of refunds refuse the returns that are listed in another table."""


def refuse(place: Workplace, *parcels: Parcel) -> None:
    """Make the database refuse the refunds of some parcels."""
    place.execute(*(f"INSERT INTO refused VALUES ('{parcel.return_id}')" for parcel in parcels))


def accept_all(place: Workplace, *parcels: Parcel) -> None:
    """Make the database accept the refunds of some parcels again."""
    place.execute(*(f"DELETE FROM refused WHERE return_id = '{parcel.return_id}'" for parcel in parcels))
