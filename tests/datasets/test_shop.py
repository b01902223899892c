"""The datasets of the lab."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from frictionless import Package, Resource

from labservices import datasets
from labservices.datasets import Datasets, StreamOrder, load_datasets, load_stream
from tools.make_streams import make_streams

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
STREAMS = ("first-orders", "busy-morning", "load", "mixed")
TABLES = {
    "products": datasets.PRODUCTS,
    "customers": datasets.CUSTOMERS,
    "destinations": datasets.DESTINATIONS,
    **dict.fromkeys(STREAMS, datasets.STREAM),
}


@pytest.fixture(scope="module")
def shop() -> Datasets:
    return load_datasets(DATASETS)


def stream(name: str) -> list[StreamOrder]:
    return load_stream(DATASETS / "streams" / f"{name}.csv")


def causes(order: StreamOrder, shop: Datasets) -> set[str]:
    """Return the reasons why an order can't complete, derived from the opening data alone."""
    stock = {product.sku: product.on_hand for product in shop.products}
    prices = {product.sku: product.unit_price_cents for product in shop.products}
    balances = {customer.customer_id: customer.balance_cents for customer in shop.customers}
    carriers = {place.destination: place.carrier for place in shop.destinations}
    total = sum(prices[line.sku] * line.quantity for line in order.items)
    found = set()
    if any(line.quantity > stock[line.sku] for line in order.items):
        found.add("insufficient_stock")
    if order.customer_id not in balances:
        found.add("unknown_customer")
    elif total > balances[order.customer_id]:
        found.add("insufficient_funds")
    if carriers[order.destination] is None:
        found.add("no_carrier")
    return found


def test_the_data_package_is_valid() -> None:
    """Frictionless validates every described file."""
    report = Package(DATASETS / "datapackage.json").validate()
    assert report.valid, report.flatten(["title", "message"])
    assert {task.name for task in report.tasks} == set(TABLES)


def test_data_package_rejects_an_invalid_row(tmp_path: Path) -> None:
    """The package's schema rejects a row that the loader rejects."""
    descriptor = json.loads((DATASETS / "datapackage.json").read_text(encoding="utf-8"))
    products = next(resource for resource in descriptor["resources"] if resource["name"] == "products")
    header, first = (DATASETS / "products.csv").read_text(encoding="utf-8").splitlines()[:2]
    (tmp_path / "products.csv").write_text(f"{header}\n{first.replace('790', '-790')}\n", encoding="utf-8")
    report = Resource(products, basepath=str(tmp_path)).validate()
    assert report.flatten(["type", "fieldName"]) == [["constraint-error", "unit_price_cents"]]


def test_every_file_is_described() -> None:
    """The package lists every CSV file, with the loader's columns in order."""
    descriptor = json.loads((DATASETS / "datapackage.json").read_text(encoding="utf-8"))
    described = {resource["path"]: resource for resource in descriptor["resources"]}
    assert set(described) == {path.relative_to(DATASETS).as_posix() for path in DATASETS.rglob("*.csv")}
    for resource in described.values():
        fields = resource["schema"]["fields"]
        assert [field["name"] for field in fields] == list(TABLES[resource["name"]])
        assert all(field["description"] for field in fields)


def test_the_readme_names_every_file_and_column() -> None:
    """The README names each file and each column."""
    words = set(re.findall(r"`([^`]+)`", (DATASETS / "README.md").read_text(encoding="utf-8")))
    files = {path.relative_to(DATASETS).as_posix() for path in DATASETS.rglob("*.csv")}
    columns = {column for table in TABLES.values() for column in table}
    assert files | columns <= words


def test_the_data_are_dedicated_to_the_public_domain() -> None:
    """The licence of the data is CC0, as the package states."""
    assert "CC0 1.0 Universal" in (DATASETS / "LICENSE").read_text(encoding="utf-8")


def test_data_contain_every_cause_of_failure(shop: Datasets) -> None:
    """The data contain every cause of a business failure: low stock, low balances, destinations without a carrier."""
    assert {0, 1, 3} <= {product.on_hand for product in shop.products}
    assert sum(product.on_hand >= 1_000_000 for product in shop.products) >= 10
    balances = {customer.customer_id: customer.balance_cents for customer in shop.customers}
    assert balances["penniless-pia"] == 0
    assert sum(balance >= 100_000_000 for balance in balances.values()) >= 200
    carriers = [place.carrier for place in shop.destinations]
    assert carriers.count(None) >= 2
    assert len(set(carriers) - {None}) == 3
    assert {product.currency for product in shop.products} == {"EUR"}


def test_edgar_can_just_pay_and_alma_is_one_cent_short(shop: Datasets) -> None:
    """Exact Edgar can just pay for two packs of Earl Grey, and Almost Alma is one cent short."""
    price = next(product.unit_price_cents for product in shop.products if product.sku == "earl-grey")
    balances = {customer.customer_id: customer.balance_cents for customer in shop.customers}
    assert balances["exact-edgar"] == 2 * price
    assert balances["almost-alma"] == 2 * price - 1


@pytest.mark.parametrize("name", STREAMS)
def test_each_order_has_exactly_the_expected_failure_cause(name: str, shop: Datasets) -> None:
    """An order that must fail has exactly one cause in the opening data, and an order that must complete has none."""
    for order in stream(name):
        expected = {order.expected_reason} if order.expected_reason else set()
        assert causes(order, shop) == expected, order


@pytest.mark.parametrize("name", STREAMS)
def test_no_interleaving_changes_an_outcome(name: str, shop: Datasets) -> None:
    """Even if all requested goods and money were held at once, no order would fail for lack of them."""
    orders = stream(name)
    requested: Counter[str] = Counter()
    charged: Counter[str] = Counter()
    prices = {product.sku: product.unit_price_cents for product in shop.products}
    for order in orders:
        if order.expected_reason == "insufficient_stock":
            continue  # it holds nothing, neither stock nor money
        for line in order.items:
            requested[line.sku] += line.quantity
            if order.expected_reason not in ("insufficient_funds", "unknown_customer"):
                charged[order.customer_id] += line.quantity * prices[line.sku]
    stock = {product.sku: product.on_hand for product in shop.products}
    balances = {customer.customer_id: customer.balance_cents for customer in shop.customers}
    assert all(10 * quantity <= stock[sku] for sku, quantity in requested.items()), "ten runs without a reset"
    assert all(10 * total <= balances[customer] for customer, total in charged.items())


@pytest.mark.parametrize("name", STREAMS)
def test_only_orders_of_small_accounts_lack_money(name: str, shop: Datasets) -> None:
    """Orders that can't be paid use small accounts, and all others use accounts that can't run out."""
    rich = {customer.customer_id for customer in shop.customers if customer.balance_cents >= 100_000_000}
    for order in stream(name):
        if order.expected_reason == "insufficient_funds":
            assert order.customer_id not in rich
        elif order.expected_reason != "unknown_customer":
            assert order.customer_id in rich


def test_the_streams_have_the_promised_outcomes() -> None:
    """Each stream has the length and the number of failures that the README states."""
    outcomes = {name: Counter(order.expected_reason for order in stream(name)) for name in STREAMS}
    reasons: list[str | None] = list(datasets.REASONS)
    assert outcomes["first-orders"].total() == 8
    assert set(outcomes["first-orders"]) == {None, *reasons}
    assert outcomes["busy-morning"] == {None: 80, **dict.fromkeys(reasons, 5)}
    assert outcomes["load"] == {None: 1000}
    assert outcomes["mixed"] == {None: 1500, **dict.fromkeys(reasons, 125)}


def test_no_row_is_hot_under_load(shop: Datasets) -> None:
    """The load stream uses customers and products evenly, and its neighbours rarely share a product."""
    orders = stream("load")
    customers = Counter(order.customer_id for order in orders)
    products = Counter(line.sku for order in orders for line in order.items)
    assert max(customers.values()) - min(customers.values()) <= 1
    assert max(products.values()) - min(products.values()) <= 2
    assert len(products) == 20
    neighbours = pairwise(orders)
    shared = sum({a.sku for a in one.items} & {b.sku for b in two.items} != set() for one, two in neighbours)
    assert shared <= len(orders) // 20


def test_script_reproduces_the_streams(tmp_path: Path) -> None:
    """The seeded script reproduces the committed streams byte by byte."""
    written = make_streams(tmp_path)
    assert {path.stem for path in written} == set(STREAMS)
    for path in written:
        assert path.read_bytes() == (DATASETS / "streams" / path.name).read_bytes(), path.name
