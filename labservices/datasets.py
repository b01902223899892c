"""Strict loading of the shop's opening data and its order streams.

Each service loads its opening data through this module. All files are checked before any data is returned, so that
services never start with inconsistent data. Either every row of every file is valid, or nothing is loaded and
`DatasetError` names each problem by file, line and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labservices.strict_csv import (
    BadValue,
    Column,
    DatasetError,
    Table,
    currency,
    identifier,
    integer,
    name,
    one_of,
    optional,
)

MAX_CENTS = 10**12  # the largest order of the most expensive products still fits a bigint
MAX_STOCK = 10**9
MAX_QUANTITY = 1000
MAX_LINES = 50
REASONS = ("insufficient_stock", "unknown_customer", "insufficient_funds", "no_carrier")


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the shop, with its stock at the start of the course."""

    sku: str
    name: str
    unit_price_cents: int
    currency: str
    on_hand: int


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer, with the balance of their account at the start of the course."""

    customer_id: str
    name: str
    balance_cents: int
    currency: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A destination of orders; `carrier` is None if no carrier serves it."""

    destination: str
    name: str
    carrier: str | None


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line of an order."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One order of a stream, with its expected outcome."""

    position: int
    customer_id: str
    destination: str
    items: tuple[OrderLine, ...]
    expected_status: str
    expected_reason: str | None

    def body(self) -> dict[str, Any]:
        """Return the order as the body of `POST /orders`."""
        items = [{"sku": line.sku, "quantity": line.quantity} for line in self.items]
        return {"customer_id": self.customer_id, "destination": self.destination, "items": items}


@dataclass(frozen=True, slots=True)
class Datasets:
    """The opening data of all services, checked together."""

    products: list[Product]
    customers: list[Customer]
    destinations: list[Destination]


def items(text: str) -> tuple[OrderLine, ...]:
    """Parse the lines of an order: `sku:quantity sku:quantity`."""
    quantity = integer(1, MAX_QUANTITY)
    try:
        pairs = [pair.split(":") for pair in text.split(" ")]
        lines = tuple(OrderLine(identifier(sku), quantity(count)) for sku, count in pairs)
    except (BadValue, ValueError):
        raise BadValue(f"sku:quantity pairs separated by one space, with quantities from 1 to {MAX_QUANTITY}") from None
    if len(lines) > MAX_LINES or len({line.sku for line in lines}) < len(lines):
        raise BadValue(f"at most {MAX_LINES} pairs, with each sku once")
    return lines


PRODUCTS: Mapping[str, Column] = {
    "sku": identifier,
    "name": name,
    "unit_price_cents": integer(0, MAX_CENTS),
    "currency": currency,
    "on_hand": integer(0, MAX_STOCK),
}
CUSTOMERS: Mapping[str, Column] = {
    "customer_id": identifier,
    "name": name,
    "balance_cents": integer(0, MAX_CENTS),
    "currency": currency,
}
DESTINATIONS: Mapping[str, Column] = {
    "destination": identifier,
    "name": name,
    "carrier": optional(identifier),
}
STREAM: Mapping[str, Column] = {
    "position": integer(1, 10**9),
    "customer_id": identifier,
    "destination": identifier,
    "items": items,
    "expected_status": one_of("COMPLETED", "CANCELLED"),
    "expected_reason": optional(one_of(*REASONS)),
}


def load_datasets(folder: Path | str) -> Datasets:
    """Load the opening data of all services.

    Parameters
    ----------
    folder
        The folder of `products.csv`, `customers.csv` and `destinations.csv`.

    Raises
    ------
    DatasetError
        If any file has a problem; the error lists all problems of all files.
    """
    folder = Path(folder)
    products = Table(folder / "products.csv", PRODUCTS, Product)
    customers = Table(folder / "customers.csv", CUSTOMERS, Customer)
    destinations = Table(folder / "destinations.csv", DESTINATIONS, Destination)
    products.unique("sku")
    customers.unique("customer_id")
    destinations.unique("destination")
    _check_one_currency(products, customers)
    if problems := products.problems + customers.problems + destinations.problems:
        raise DatasetError(problems)
    return Datasets(products.values(), customers.values(), destinations.values())


def _check_one_currency(products: Table[Product], customers: Table[Customer]) -> None:
    lines: list[tuple[Table[Any], int, str]] = []
    lines += [(products, line, product.currency) for line, product in products.rows]
    lines += [(customers, line, customer.currency) for line, customer in customers.rows]
    for table, line, seen in lines:
        if seen != lines[0][2]:
            table.report(line, "currency", repr(seen), f"{lines[0][2]!r}, since the shop has one currency")


def load_products(folder: Path | str) -> list[Product]:
    """Return the products of `load_datasets`, which checks all files."""
    return load_datasets(folder).products


def load_customers(folder: Path | str) -> list[Customer]:
    """Return the customers of `load_datasets`, which checks all files."""
    return load_datasets(folder).customers


def load_destinations(folder: Path | str) -> list[Destination]:
    """Return the destinations of `load_datasets`, which checks all files."""
    return load_datasets(folder).destinations


def load_stream(path: Path | str, datasets: Datasets | None = None) -> list[StreamOrder]:
    """Load a stream of orders with their expected outcomes.

    Parameters
    ----------
    path
        The stream's file.
    datasets
        The data that the orders refer to. Default: the data in the parent of the stream's folder.

    Raises
    ------
    DatasetError
        If the data or the stream has a problem. The stream is read only if the data is valid, and its references are
        checked only if its rows are valid.
    """
    path = Path(path)
    if datasets is None:
        datasets = load_datasets(path.parent.parent)
    table = Table(path, STREAM, StreamOrder)
    if not table.problems:
        _check_references(table, datasets)
    if table.problems:
        raise DatasetError(table.problems)
    return table.values()


def _check_references(table: Table[StreamOrder], datasets: Datasets) -> None:
    skus = {product.sku for product in datasets.products}
    customers = {customer.customer_id for customer in datasets.customers}
    carriers = {destination.destination: destination.carrier for destination in datasets.destinations}
    for number, (line, order) in enumerate(table.rows, start=1):
        reason = order.expected_reason
        if order.position != number:
            table.report(line, "position", repr(order.position), f"{number}, since positions are numbered from 1")
        for item in order.items:
            if item.sku not in skus:
                table.report(line, "items", repr(item.sku), "a sku from products.csv")
        if (order.customer_id in customers) == (reason == "unknown_customer"):
            table.report(
                line,
                "customer_id",
                repr(order.customer_id),
                "a customer from customers.csv, or an unknown customer and the reason unknown_customer",
            )
        if order.destination not in carriers:
            table.report(line, "destination", repr(order.destination), "a destination from destinations.csv")
        elif (reason == "no_carrier") != (carriers[order.destination] is None):
            table.report(
                line,
                "destination",
                repr(order.destination),
                "a destination with a carrier, or one without a carrier and the reason no_carrier",
            )
        if (order.expected_status == "COMPLETED") != (reason is None):
            table.report(line, "expected_reason", repr(reason or ""), "no reason for COMPLETED, a reason for CANCELLED")
