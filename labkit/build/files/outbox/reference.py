"""Returns, step 1: store a return and its event in one transaction."""

import os
import uuid
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, create_engine, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)


class Base(DeclarativeBase):
    """The base of the tables."""


class Return(Base):
    """A return: return_id, order_id, customer_id, amount_cents, status, requested_at."""

    __tablename__ = "returns"
    return_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    order_id: Mapped[uuid.UUID] = mapped_column(unique=True)
    customer_id: Mapped[str]
    amount_cents: Mapped[int]
    status: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OutboxEvent(Base):
    """An event: id, aggregatetype, aggregateid, type, payload, traceparent, created_at."""

    __tablename__ = "outbox"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    aggregatetype: Mapped[str]
    aggregateid: Mapped[str]
    type: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def create_tables() -> None:
    """Create the tables that do not exist yet."""
    Base.metadata.create_all(engine)


def request_return(order_id: str, customer_id: str, lines: list[dict[str, Any]], traceparent: str) -> str:
    """Store the return of an order with its event, and return the return's id.

    Each of the lines has a sku, a quantity and a unit_price_cents.
    """
    now = datetime.now(UTC)
    amount_cents = sum(line["quantity"] * line["unit_price_cents"] for line in lines)
    row = {
        "return_id": uuid.uuid4(),
        "order_id": uuid.UUID(order_id),
        "customer_id": customer_id,
        "amount_cents": amount_cents,
        "status": "REQUESTED",
        "requested_at": now,
    }
    with Session.begin() as session:
        created = session.scalar(
            insert(Return).values(row).on_conflict_do_nothing(index_elements=["order_id"]).returning(Return.return_id)
        )
        if created is None:  # the customer has asked before
            return str(session.scalar(select(Return.return_id).where(Return.order_id == row["order_id"])))
        session.add(
            OutboxEvent(
                id=uuid.uuid4(),
                aggregatetype="returns",
                aggregateid=order_id,
                type="ReturnRequested",
                payload={
                    **row,
                    "return_id": str(created),
                    "order_id": order_id,
                    "requested_at": now.isoformat(),
                    "lines": lines,
                },
                traceparent=traceparent,
                created_at=now,
            )
        )
    return str(created)
