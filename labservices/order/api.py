"""The order service's HTTP API."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from labservices.http.fields import Name, NameFilter, RequestBody
from labservices.http.paging import Cursor, Limit, Page, read_page
from labservices.http.problems import HttpProblem, error_responses, not_found
from labservices.order import commands
from labservices.order.domain import Status, TooLate
from labservices.order.pricing import PRICING
from labservices.order.tables import order_history, orders
from labservices.settings import Settings
from labservices.storage.database import Database


class NewLine(RequestBody):
    """One product to order."""

    sku: Name
    quantity: Annotated[int, Field(ge=1, le=1000)]


class NewOrder(RequestBody):
    """A customer's request for a new order."""

    customer_id: Name
    destination: Name
    items: Annotated[list[NewLine], Field(min_length=1, max_length=50)]


class OrderLine(BaseModel):
    """One line of an order, with its price at the time of the order."""

    sku: str
    quantity: int
    unit_price_cents: int


class Order(BaseModel):
    """An order in its current state."""

    model_config = ConfigDict(from_attributes=True)

    order_id: UUID
    customer_id: str
    destination: str
    status: Status
    items: list[OrderLine]
    total_cents: int
    currency: str
    failure_reason: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class StatusChange(BaseModel):
    """A status of an order, and the event that caused it."""

    model_config = ConfigDict(from_attributes=True)

    status: Status
    reason: str | None
    event_id: UUID
    at: datetime


Key = Annotated[str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


def make_router(database: Database, settings: Settings) -> APIRouter:
    """Create the routes on a database."""
    router = APIRouter(tags=["orders"])
    price = PRICING[settings.service_version]

    @router.post("/orders", status_code=201, responses={200: {"model": Order}, **error_responses(409)})
    def place_order(request: NewOrder, response: Response, idempotency_key: Key = None) -> Order:
        """Place an order.

        The same request with the same `Idempotency-Key` returns the same order with `200`; another request with this
        key gets `409`.
        """
        with database.transaction() as tx:
            try:
                order, is_new = commands.place(tx, request.model_dump(), idempotency_key, price)
            except commands.UnknownSkus as error:
                errors = [(f"#/items/{line}/sku", "no such product") for line in error.lines]
                raise HttpProblem(422, "unknown-sku", "the order names products that don't exist", errors) from None
            except commands.KeyTaken:
                detail = "this Idempotency-Key was used with another request"
                raise HttpProblem(409, "idempotency-key-taken", detail) from None
        response.status_code = 201 if is_new else 200
        response.headers["Location"] = f"/orders/{order.order_id}"
        return Order.model_validate(order)

    @router.get("/orders")
    def list_orders(
        status: Status | None = None, customer_id: NameFilter = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Page[Order]:
        """List orders, newest first."""
        query = select(orders)
        if status is not None:
            query = query.where(orders.c.status == status)
        if customer_id is not None:
            query = query.where(orders.c.customer_id == customer_id)
        with database.transaction() as tx:
            rows, next_cursor = read_page(tx, query, orders.c.order_id, limit, cursor, newest_first=True)
        return Page(items=[Order.model_validate(row) for row in rows], next_cursor=next_cursor)

    @router.get("/orders/{order_id}", responses=error_responses(404))
    def read_order(order_id: UUID) -> Order:
        """Read one order."""
        with database.transaction() as tx:
            order = commands.read_order(tx, order_id)
        if order is None:
            raise not_found("order", order_id)
        return Order.model_validate(order)

    @router.get("/orders/{order_id}/history", responses=error_responses(404))
    def read_history(order_id: UUID, limit: Limit = 50, cursor: Cursor = None) -> Page[StatusChange]:
        """List an order's status changes, oldest first."""
        query = select(order_history).where(order_history.c.order_id == order_id)
        with database.transaction() as tx:
            if commands.read_order(tx, order_id) is None:
                raise not_found("order", order_id)
            rows, next_cursor = read_page(tx, query, order_history.c.version, limit, cursor)
        return Page(items=[StatusChange.model_validate(row) for row in rows], next_cursor=next_cursor)

    @router.post("/orders/{order_id}/cancel", status_code=202, responses=error_responses(404, 409))
    def cancel_order(order_id: UUID) -> Order:
        """Cancel an order. A repeated request changes nothing; a COMPLETED order can't be cancelled."""
        with database.transaction() as tx:
            try:
                order = commands.cancel(tx, order_id)
            except TooLate:
                raise HttpProblem(
                    409, "order-completed", f"order {order_id} is COMPLETED; it can't be undone"
                ) from None
        if order is None:
            raise not_found("order", order_id)
        return Order.model_validate(order)

    return router
