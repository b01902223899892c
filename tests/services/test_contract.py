"""The published contract matches the services' code."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from labservices import contract
from labservices.events import EVENTS, ErrorEvent
from labservices.order.domain import STEPS
from labservices.service import Service
from tests.services.oracle import ACTS_ON

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
    assert {event.__name__ for event in SERVICES[name].handlers} == contract.acts_on(name) == ACTS_ON[name]
    assert contract.consumed_topics(name) == set(SERVICES[name].topics)


@pytest.mark.parametrize("step", contract.STEPS, ids=lambda step: step.service)
def test_steps_are_the_contract(step: contract.Step) -> None:
    """A step has the events, the row, the statuses and the effects that the service's code has."""
    domain, tables = import_module(f"labservices.{step.service}.domain"), SERVICES[step.service].tables.tables
    (own,) = [one for one in STEPS if one.success.__name__ == step.success]
    assert (own.failure.__name__, own.undo.__name__, own.reaches) == (step.failure, step.undo, step.reaches)
    assert step.command in contract.acts_on(step.service)
    assert {step.taken, step.undone, step.completed, "FAILED", "TOMBSTONE", "NEW"} == set(domain.Status)
    assert step.key in tables[step.table].primary_key.columns
    effects = re.findall(r"effect IN \((.*?)\)", str(CreateTable(tables[step.effects])))[0]
    named = {effect for effect in (step.take, step.revert, step.complete) if effect}
    assert named == set(re.findall(r"'(\w+)'", effects)) - {"opening", "restock", "deposit"}


def test_cancellations_are_the_contract() -> None:
    """The order service cancels with its error events, which end in no other way than failures."""
    errors = {event.__name__ for event in EVENTS.values() if issubclass(event, ErrorEvent)}
    assert {kind for kind in errors if not kind.endswith("Failed")} == contract.CANCELLATIONS


def test_contract_is_light() -> None:
    """The contract imports neither SQLAlchemy nor FastAPI nor pydantic."""
    code = "import sys, labservices.contract; print({'sqlalchemy', 'fastapi', 'pydantic'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
