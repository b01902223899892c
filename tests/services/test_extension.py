"""Extension services: a learner's handlers, each in one transaction of its own database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData

from labservices.events import OrderCreated
from labservices.extension import ExtensionHandling, read_service
from labservices.messaging.handling import RetryLater
from labservices.service import Service
from labservices.storage.unavailable import DatabaseUnavailable
from tests.services.world import World, changed, make_order_created, record_of


def handling(world: World, handler: Any) -> ExtensionHandling:
    service = Service("points", MetaData(), lambda *_: None, {OrderCreated: handler}, lambda *_: None)  # type: ignore[arg-type]
    url = world.payment.runtime.settings.database_url
    return ExtensionHandling(service, url.replace("postgresql+psycopg://", "postgresql://"))


def test_failed_handler_is_retried_and_rolled_back(world: World) -> None:
    """A handler that raises changes nothing, and its record is retried; the error is not called a missing database."""

    def fails(db: Any, event: OrderCreated, event_id: Any) -> None:
        db.execute("CREATE TABLE points (n int)")
        raise ValueError("no points today")

    with pytest.raises(RetryLater, match="no points today") as failed:
        handling(world, fails).handle(record_of(make_order_created()))
    assert not isinstance(failed.value, DatabaseUnavailable)
    seen: list[Any] = []
    looks = handling(world, lambda db, *_: seen.append(db.execute("SELECT to_regclass('points')").fetchone()))
    assert looks.handle(record_of(make_order_created())) == "handled"
    assert seen == [(None,)]


def test_invalid_record_is_ignored(world: World) -> None:
    """A record that does not conform to the contract is ignored, because an extension service can't park it."""
    record = changed(record_of(make_order_created()), value=b"no JSON")
    assert handling(world, pytest.fail).handle(record) == "ignored"


def test_an_event_type_named_by_a_string_is_explained(tmp_path: Path) -> None:
    """HANDLERS with a name instead of a type is rejected with the import that is missing."""
    file = tmp_path / "loyalty.py"
    file.write_text('HANDLERS = {"PaymentCompleted": print}\n')
    with pytest.raises(LookupError, match="import the type"):
        read_service("loyalty", str(file))
