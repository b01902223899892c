"""The published contract is what the services' code does."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from sqlalchemy.dialects import postgresql

from labservices import contract
from labservices.messaging.events import EVENTS
from labservices.service import Service

SERVICES: dict[str, Service] = {name: import_module(f"labservices.{name}").service for name in contract.SERVICES}


@pytest.mark.parametrize("name", contract.SERVICES)
def test_tables_are_the_contract(name: str) -> None:
    """Each table and each column of a service is in the contract, and nothing else is."""
    tables = {
        table.name: tuple(column.name for column in table.columns) for table in SERVICES[name].tables.sorted_tables
    }
    assert tables == contract.TABLES[name]


@pytest.mark.parametrize("name", contract.SERVICES)
def test_outbox_types_are_the_contract(name: str) -> None:
    """The outbox columns have the types of the contract."""
    dialect = postgresql.dialect()
    short = {"TIMESTAMP WITH TIME ZONE": "timestamptz"}
    types = {column.name: column.type.compile(dialect) for column in SERVICES[name].tables.tables["outbox"].columns}
    assert {column: short.get(sql, sql.lower()) for column, sql in types.items()} == contract.OUTBOX


@pytest.mark.parametrize("name", contract.SERVICES)
def test_events_are_the_contract(name: str) -> None:
    """A service publishes the event types of the contract to its topic, and handles those that it acts on."""
    published = {event.__name__ for event in EVENTS.values() if event.topic == contract.events_topic(name)}
    assert published == set(contract.PUBLISHES[name])
    assert {event.__name__ for event in SERVICES[name].handlers} == contract.ACTS_ON[name]


def test_contract_is_light() -> None:
    """The contract imports neither SQLAlchemy nor FastAPI nor pydantic."""
    code = "import sys, labservices.contract; print({'sqlalchemy', 'fastapi', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
