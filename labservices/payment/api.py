"""The HTTP API of the payment service."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row, select

from labservices.http.fields import NameInPath, RequestBody
from labservices.http.paging import Cursor, Limit, Page, read_page
from labservices.http.problems import error_responses, not_found
from labservices.ids import uuid7
from labservices.payment.domain import Status
from labservices.payment.tables import accounts, ledger_entries, payments
from labservices.settings import Settings
from labservices.storage.database import Database, Transaction


class LedgerEntry(BaseModel):
    """A movement of money: `capture` debits the customer's account, and `refund` credits it."""

    model_config = ConfigDict(from_attributes=True)

    entry_id: UUID
    effect: str
    amount_cents: int
    event_id: UUID
    at: datetime


class Payment(BaseModel):
    """The payment of one order, with its ledger entries."""

    payment_id: UUID
    order_id: UUID
    customer_id: str
    amount_cents: int
    currency: str
    status: Status
    failure_reason: str | None
    entries: list[LedgerEntry]
    created_at: datetime
    updated_at: datetime


class Account(BaseModel):
    """A customer's account."""

    model_config = ConfigDict(from_attributes=True)

    customer_id: str
    balance_cents: int
    currency: str


class Deposit(RequestBody):
    """A deposit into a customer's account."""

    amount_cents: Annotated[int, Field(ge=1, le=1_000_000_000)]


_payments = select(payments).where(payments.c.status != Status.TOMBSTONE)


def make_router(database: Database, settings: Settings) -> APIRouter:
    """Create the routes on a database."""
    router = APIRouter(prefix="/payments", tags=["payments"])

    @router.get("")
    def list_payments(order_id: UUID | None = None, limit: Limit = 50, cursor: Cursor = None) -> Page[Payment]:
        """List the payments, newest first."""
        query = _payments if order_id is None else _payments.where(payments.c.order_id == order_id)
        with database.transaction() as tx:
            rows, next_cursor = read_page(tx, query, payments.c.payment_id, limit, cursor, newest_first=True)
            items = _with_entries(tx, rows)
        return Page(items=items, next_cursor=next_cursor)

    @router.get("/{payment_id}", responses=error_responses(404))
    def read_payment(payment_id: UUID) -> Payment:
        """Read one payment."""
        with database.transaction() as tx:
            found = _with_entries(tx, tx.execute(_payments.where(payments.c.payment_id == payment_id)).all())
        if not found:
            raise not_found("payment", payment_id)
        return found[0]

    @router.get("/accounts/{customer_id}", responses=error_responses(404))
    def read_account(customer_id: NameInPath) -> Account:
        """Read a customer's account."""
        with database.transaction() as tx:
            row = tx.execute(select(accounts).where(accounts.c.customer_id == customer_id)).one_or_none()
        if row is None:
            raise not_found("account of customer", customer_id)
        return Account.model_validate(row)

    @router.post("/accounts/{customer_id}/deposit", responses=error_responses(404))
    def deposit(customer_id: NameInPath, money: Deposit) -> Account:
        """Pay money into a customer's account."""
        update = accounts.update().where(accounts.c.customer_id == customer_id)
        update = update.values(balance_cents=accounts.c.balance_cents + money.amount_cents)
        entry = {
            "entry_id": uuid7(),
            "effect": "deposit",
            "customer_id": customer_id,
            "amount_cents": money.amount_cents,
        }
        with database.transaction() as tx:
            row = tx.execute(update.returning(accounts)).one_or_none()
            if row is None:
                raise not_found("account of customer", customer_id)
            tx.execute(ledger_entries.insert(), entry)
        return Account.model_validate(row)

    return router


def _with_entries(tx: Transaction, rows: Sequence[Row[Any]]) -> list[Payment]:
    """Return the payments with their ledger entries, which one statement reads for all payments."""
    of_payment: dict[UUID, list[LedgerEntry]] = {row.payment_id: [] for row in rows}
    query = select(ledger_entries).where(ledger_entries.c.order_id.in_([row.order_id for row in rows]))
    for entry in tx.execute(query.order_by(ledger_entries.c.entry_id)):
        of_payment[entry.payment_id].append(LedgerEntry.model_validate(entry))
    return [Payment(**row._mapping, entries=of_payment[row.payment_id]) for row in rows]
