"""What a service's folder exports: everything in which it differs from the others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, MetaData

from labservices.settings import Settings
from labservices.shared.database import Database, Transaction
from labservices.shared.events import Event
from labservices.shared.gauges import Gauge

if TYPE_CHECKING:
    from fastapi import APIRouter

Handler = Callable[[Transaction, Any], None]
"""Does what one event asks for, inside the transaction that it is given."""


@dataclass(frozen=True)
class Service:
    """One service.

    Parameters
    ----------
    name
        Its name, which is also its consumer group and the first half of its topic's name.
    tables
        Its tables, ``inbox`` and ``outbox`` among them.
    load_opening_data
        Fills new tables from the folder of datasets.
    handlers
        What it does upon each event that concerns it; all others it lets pass.
    make_router
        Makes its HTTP API, on its database and with its settings.
    every_second
        What it looks after by itself, if anything: called about once a second while it runs.
    gauges
        What is measured in its database, beside what is measured in all.
    """

    name: str
    tables: MetaData
    load_opening_data: Callable[[Connection, Path], None]
    handlers: Mapping[type[Event], Handler]
    make_router: "Callable[[Database, Settings], APIRouter]"
    every_second: Callable[[Database, Settings], object] | None = None
    gauges: tuple[Gauge, ...] = ()

    @property
    def topics(self) -> list[str]:
        """The topics in which the events stand that concern this service."""
        return sorted({event.topic for event in self.handlers})
