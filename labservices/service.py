"""The definition of a service: everything that distinguishes it from the other services."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, MetaData

from labservices.events import Event
from labservices.settings import Settings
from labservices.storage.database import Database, Transaction
from labservices.telemetry.gauges import Gauge

if TYPE_CHECKING:
    from fastapi import APIRouter

Handler = Callable[[Transaction, Any], None]
"""Handles one event inside the given transaction."""


@dataclass(frozen=True)
class Service:
    """One service.

    Parameters
    ----------
    name
        The service's name, which is also its consumer group and the first half of its topic's name.
    tables
        The service's tables, including ``inbox`` and ``outbox``.
    load_opening_data
        Fills new tables from the folder of datasets.
    handlers
        The handler of each event type; the service ignores all other events.
    make_router
        Creates the HTTP API for a database and settings.
    every_second
        A periodic task (optional), called about once a second while the service runs.
    gauges
        The gauges of this service's database, in addition to those of every service.
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
        """The topics of the events that this service handles."""
        return sorted({event.topic for event in self.handlers})
