"""The HTTP API of the shipping service."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from labservices.http.paging import Cursor, Limit, Page, read_page
from labservices.http.problems import error_responses, not_found
from labservices.settings import Settings
from labservices.shipping.domain import Status
from labservices.shipping.tables import shipments
from labservices.storage.database import Database


class Shipment(BaseModel):
    """The shipment of one order."""

    model_config = ConfigDict(from_attributes=True)

    shipment_id: UUID
    order_id: UUID
    status: Status
    carrier: str | None
    destination: str
    failure_reason: str | None
    created_at: datetime
    updated_at: datetime


_shipments = select(shipments).where(shipments.c.status != Status.TOMBSTONE)


def make_router(database: Database, settings: Settings) -> APIRouter:
    """Create the routes on a database."""
    router = APIRouter(prefix="/shipping", tags=["shipping"])

    @router.get("/shipments")
    def list_shipments(order_id: UUID | None = None, limit: Limit = 50, cursor: Cursor = None) -> Page[Shipment]:
        """List the shipments, newest first."""
        query = _shipments if order_id is None else _shipments.where(shipments.c.order_id == order_id)
        with database.transaction() as tx:
            rows, next_cursor = read_page(tx, query, shipments.c.shipment_id, limit, cursor, newest_first=True)
        return Page(items=[Shipment.model_validate(row) for row in rows], next_cursor=next_cursor)

    @router.get("/shipments/{shipment_id}", responses=error_responses(404))
    def read_shipment(shipment_id: UUID) -> Shipment:
        """Read one shipment."""
        with database.transaction() as tx:
            row = tx.execute(_shipments.where(shipments.c.shipment_id == shipment_id)).one_or_none()
        if row is None:
            raise not_found("shipment", shipment_id)
        return Shipment.model_validate(row)

    return router
