"""The HTTP API of the inventory service."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from labservices.http.fields import NameInPath, RequestBody
from labservices.http.paging import Cursor, Limit, Page, read_page
from labservices.http.problems import error_responses, not_found
from labservices.ids import uuid7
from labservices.inventory.domain import Status
from labservices.inventory.tables import products, reservations, stock_movements
from labservices.settings import Settings
from labservices.storage.database import Database


class Product(BaseModel):
    """A product and its stock: `reserved` is the part of `on_hand` that is promised to orders."""

    model_config = ConfigDict(from_attributes=True)

    sku: str
    name: str
    unit_price_cents: int
    currency: str
    on_hand: int
    reserved: int
    shipped: int
    available: int


class Restock(RequestBody):
    """A delivery of goods to the warehouse."""

    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


class ReservationLine(BaseModel):
    """A quantity of one product."""

    sku: str
    quantity: int


class Reservation(BaseModel):
    """The reservation of one order's goods."""

    model_config = ConfigDict(from_attributes=True)

    reservation_id: UUID
    order_id: UUID
    status: Status
    failure_reason: str | None
    lines: list[ReservationLine]
    created_at: datetime
    updated_at: datetime


_products = select(products, (products.c.on_hand - products.c.reserved).label("available"))


def make_router(database: Database, settings: Settings) -> APIRouter:
    """Create the routes on a database."""
    router = APIRouter(prefix="/inventory", tags=["inventory"])

    @router.get("/products")
    def list_products(limit: Limit = 50, cursor: Cursor = None) -> Page[Product]:
        """List the products, by sku."""
        with database.transaction() as tx:
            rows, next_cursor = read_page(tx, _products, products.c.sku, limit, cursor)
        return Page(items=[Product.model_validate(row) for row in rows], next_cursor=next_cursor)

    @router.get("/products/{sku}", responses=error_responses(404))
    def read_product(sku: NameInPath) -> Product:
        """Read one product."""
        with database.transaction() as tx:
            row = tx.execute(_products.where(products.c.sku == sku)).one_or_none()
        if row is None:
            raise not_found("product", sku)
        return Product.model_validate(row)

    @router.post("/products/{sku}/restock", responses=error_responses(404))
    def restock(sku: NameInPath, goods: Restock) -> Product:
        """Add delivered goods to a product's stock."""
        update = products.update().where(products.c.sku == sku).values(on_hand=products.c.on_hand + goods.quantity)
        movement = {"movement_id": uuid7(), "effect": "restock", "sku": sku, "quantity": goods.quantity}
        with database.transaction() as tx:
            if tx.execute(update).rowcount == 0:
                raise not_found("product", sku)
            tx.execute(stock_movements.insert(), movement)
            row = tx.execute(_products.where(products.c.sku == sku)).one()
        return Product.model_validate(row)

    @router.get("/reservations")
    def list_reservations(order_id: UUID | None = None, limit: Limit = 50, cursor: Cursor = None) -> Page[Reservation]:
        """List the reservations, newest first."""
        query = select(reservations).where(reservations.c.status != Status.TOMBSTONE)
        if order_id is not None:
            query = query.where(reservations.c.order_id == order_id)
        with database.transaction() as tx:
            rows, next_cursor = read_page(tx, query, reservations.c.reservation_id, limit, cursor, newest_first=True)
        return Page(items=[Reservation.model_validate(row) for row in rows], next_cursor=next_cursor)

    return router
