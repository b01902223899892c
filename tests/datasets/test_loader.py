"""The loader: accepted data, rejected data, and error reports."""

from __future__ import annotations

import csv
import os
import re
import string
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labservices import datasets
from labservices.datasets import (
    Customer,
    DatasetError,
    Destination,
    OrderLine,
    Product,
    load_customers,
    load_datasets,
    load_destinations,
    load_products,
    load_stream,
)
from labservices.strict_csv import BadValue, Table, currency, identifier, integer, name

PRODUCTS_HEADER = "sku,name,unit_price_cents,currency,on_hand"
STREAM_HEADER = "position,customer_id,destination,items,expected_status,expected_reason"


def error_of(load: Callable[[], Any]) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        load()
    return caught.value


def locations(error: DatasetError) -> list[tuple[str, int | None, str | None]]:
    return [(problem.file, problem.line, problem.field) for problem in error.problems]


def write_products(folder: Path, *lines: str) -> None:
    (folder / "products.csv").write_text("\n".join([PRODUCTS_HEADER, *lines]) + "\n", encoding="utf-8")


def write_stream(folder: Path, *lines: str) -> Path:
    path = folder / "streams" / "own.csv"
    path.write_text("\n".join([STREAM_HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def test_rows_become_values(shop: Path) -> None:
    """Each loader returns immutable values of the right types; an empty carrier is None."""
    assert load_products(shop)[3] == Product("earl-grey", "Earl Grey with Bergamot, 100 g", 890, "EUR", 1_000_000)
    assert load_customers(shop)[0] == Customer("ada", "Ada Moreau", 100_000_000, "EUR")
    places = {place.destination: place for place in load_destinations(shop)}
    assert places["lisbon"] == Destination("lisbon", "Lisbon, Portugal", "swallow-express")
    assert places["tristan-da-cunha"].carrier is None
    with pytest.raises(AttributeError):
        places["lisbon"].carrier = None  # type: ignore[misc]


def test_stream_order_has_a_request_body_and_an_expected_outcome(shop: Path) -> None:
    """A stream's order has a request body that can be sent as is, and its expected outcome."""
    order = load_stream(shop / "streams" / "first-orders.csv")[6]
    assert order.items == (OrderLine("genmaicha", 1), OrderLine("kintsugi-bowl", 2))
    assert order.body() == {
        "customer_id": "edsger",
        "destination": "amsterdam",
        "items": [{"sku": "genmaicha", "quantity": 1}, {"sku": "kintsugi-bowl", "quantity": 2}],
    }
    assert (order.expected_status, order.expected_reason) == ("CANCELLED", "insufficient_stock")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sku", ""),
        ("sku", "Earl-Grey"),
        ("sku", "earl grey"),
        ("sku", "-earl"),
        ("sku", "earl--grey"),
        ("sku", "tea\u0301"),
        ("sku", "x" * 65),
        ("name", ""),
        ("name", " Tea"),
        ("name", "Tea\tLeaf"),
        ("name", "Tea\x00"),
        ("name", "T" * 201),
        ("unit_price_cents", "-1"),
        ("unit_price_cents", "1.50"),
        ("unit_price_cents", "1e3"),
        ("unit_price_cents", "1_000"),
        ("unit_price_cents", " 7"),
        ("unit_price_cents", "007"),
        ("unit_price_cents", "+7"),
        ("unit_price_cents", "٣"),
        ("unit_price_cents", "nan"),
        ("unit_price_cents", ""),
        ("unit_price_cents", "1000000000001"),
        ("unit_price_cents", "9" * 5000),
        ("currency", "eur"),
        ("currency", "EURO"),
        ("currency", ""),
        ("on_hand", "-1"),
        ("on_hand", "1000000001"),
        ("on_hand", "many"),
    ],
)
def test_invalid_value_is_reported_by_file_line_and_field(shop: Path, field: str, value: str) -> None:
    """A value of the wrong type, form or range is rejected, with the actual and the expected value."""
    good = {"sku": "tea", "name": "Tea", "unit_price_cents": "1", "currency": "EUR", "on_hand": "1"}
    write_products(shop, "first,First,1,EUR,1", ",".join((good | {field: value}).values()))
    error = error_of(lambda: load_products(shop))
    assert locations(error) == [("products.csv", 3, field)]
    assert repr(value)[:20] in str(error)
    assert error.problems[0].expected in str(error)


def test_one_error_lists_all_problems_of_all_files(shop: Path) -> None:
    """One error lists all problems of all files."""
    write_products(shop, "Bad,Bad,-1,EUR,1", "good,Good,1,EUR,1", "short,Short", "tea,Tea,1,EUR,1,extra")
    (shop / "destinations.csv").write_text("destination,name,carrier\nx,,Nobody!\n", encoding="utf-8")
    assert locations(error_of(lambda: load_customers(shop))) == [
        ("products.csv", 2, "sku"),
        ("products.csv", 2, "unit_price_cents"),
        ("products.csv", 4, None),
        ("products.csv", 5, None),
        ("destinations.csv", 2, "name"),
        ("destinations.csv", 2, "carrier"),
    ]


def test_inconsistent_data_stop_every_service(shop: Path) -> None:
    """Inconsistent data are rejected as a whole: shipping does not start with half a shop."""
    (shop / "products.csv").unlink()
    for load in (load_products, load_customers, load_destinations, load_datasets):
        assert locations(error_of(lambda load=load: load(shop))) == [("products.csv", None, None)]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("file", "key"), [("products", "sku"), ("customers", "customer_id"), ("destinations", "destination")]
)
def test_duplicate_id_is_reported_with_the_line_of_its_first_use(shop: Path, file: str, key: str) -> None:
    """A duplicate id is rejected, and the message names the line of its first use."""
    path = shop / f"{file}.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n", encoding="utf-8")
    error = error_of(lambda: load_datasets(shop))
    assert locations(error) == [(f"{file}.csv", len(lines) + 1, key)]
    assert "first on line 2" in str(error)


def test_second_currency_is_rejected(shop: Path) -> None:
    """A second currency, in the same file or another, is rejected."""
    write_products(shop, "tea,Tea,1,EUR,1", "bowl,Bowl,1,USD,1")
    customers = "customer_id,name,balance_cents,currency\nada,Ada,1,EUR\ngrace,Grace,1,GBP\n"
    (shop / "customers.csv").write_text(customers, encoding="utf-8")
    assert locations(error_of(lambda: load_datasets(shop))) == [
        ("products.csv", 3, "currency"),
        ("customers.csv", 3, "currency"),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "sku,name,unit_price_cents,currency",
        "sku,name,unit_price_cents,currency,on_hand,colour",
        "name,sku,unit_price_cents,currency,on_hand",
        "sku;name;unit_price_cents;currency;on_hand",
        "SKU,name,unit_price_cents,currency,on_hand",
        "tea,Tea,1,EUR,1",
    ],
)
def test_unexpected_columns_are_rejected(shop: Path, header: str) -> None:
    """A missing, extra, renamed or moved column is rejected on line 1, with the expected columns."""
    (shop / "products.csv").write_text(f"{header}\ntea,Tea,1,EUR,1\n", encoding="utf-8")
    error = error_of(lambda: load_products(shop))
    assert locations(error) == [("products.csv", 1, None)]
    assert PRODUCTS_HEADER in str(error)


def test_empty_file_is_rejected(shop: Path) -> None:
    """A file without a header is distinguished from a file without rows."""
    (shop / "products.csv").write_bytes(b"")
    (shop / "customers.csv").write_bytes(b"customer_id,name,balance_cents,currency\n")
    assert locations(error_of(lambda: load_datasets(shop))) == [
        ("products.csv", 1, None),
        ("customers.csv", None, None),
    ]


def test_empty_line_is_rejected(shop: Path) -> None:
    """An empty line in the middle is a row without fields."""
    write_products(shop, "tea,Tea,1,EUR,1", "", "bowl,Bowl,1,EUR,1")
    assert locations(error_of(lambda: load_products(shop))) == [("products.csv", 3, None)]


def test_other_encodings_are_rejected(shop: Path) -> None:
    """Latin-1 bytes are reported with their line."""
    (shop / "products.csv").write_bytes(f"{PRODUCTS_HEADER}\ntea,Tea,1,EUR,1\nmate,Mat\xe9,1,EUR,1\n".encode("latin-1"))
    error = error_of(lambda: load_products(shop))
    assert locations(error) == [("products.csv", 3, None)]
    assert "0xe9" in str(error)


def test_byte_order_mark_and_windows_line_endings_are_accepted(shop: Path) -> None:
    """A byte order mark and Windows line endings change nothing."""
    before = load_products(shop)
    text = (shop / "products.csv").read_text(encoding="utf-8")
    (shop / "products.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load_products(shop) == before


def test_unbalanced_quotes_are_rejected(shop: Path) -> None:
    """An unclosed quote is reported with the line of the row that opens it."""
    write_products(shop, "tea,Tea,1,EUR,1", '"bowl,Bowl,1,EUR,1', "cup,Cup,1,EUR,1")
    assert locations(error_of(lambda: load_products(shop))) == [("products.csv", 3, None)]


def test_row_is_reported_with_its_first_line(shop: Path) -> None:
    """A quoted line break, itself rejected in a name, does not shift the line numbers of later rows."""
    write_products(shop, 'tea,"Tea\nLeaf",1,EUR,1', "bowl,Bowl,x,EUR,1")
    assert locations(error_of(lambda: load_products(shop))) == [
        ("products.csv", 2, "name"),
        ("products.csv", 4, "unit_price_cents"),
    ]


def test_unreadable_file_is_reported_with_the_reason(shop: Path) -> None:
    """A file that can't be read is reported with the reason of the operating system."""
    (shop / "products.csv").unlink()
    (shop / "products.csv").mkdir()
    error = error_of(lambda: load_products(shop))
    assert locations(error) == [("products.csv", None, None)]
    assert os.strerror(21) in str(error)
    assert len(error_of(lambda: load_products(shop / "nowhere")).problems) == 3


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("2,ada,lisbon,earl-grey:1,COMPLETED,", "position"),
        ("first,ada,lisbon,earl-grey:1,COMPLETED,", "position"),
        ("1,nobody,lisbon,earl-grey:1,COMPLETED,", "customer_id"),
        ("1,nobody,lisbon,earl-grey:1,CANCELLED,insufficient_funds", "customer_id"),
        ("1,ada,lisbon,earl-grey:1,CANCELLED,unknown_customer", "customer_id"),
        ("1,ada,atlantis,earl-grey:1,COMPLETED,", "destination"),
        ("1,ada,lisbon,earl-grey:1,CANCELLED,no_carrier", "destination"),
        ("1,ada,concordia-station,earl-grey:1,COMPLETED,", "destination"),
        ("1,ada,lisbon,coffee:1,COMPLETED,", "items"),
        ("1,ada,lisbon,,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:0,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1001,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:-1,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1:1,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1  sencha:1,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1;sencha:1,COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1 earl-grey:2,COMPLETED,", "items"),
        ("1,ada,lisbon," + " ".join(f"sku-{n}:1" for n in range(51)) + ",COMPLETED,", "items"),
        ("1,ada,lisbon,earl-grey:1,PENDING,", "expected_status"),
        ("1,ada,lisbon,earl-grey:1,COMPLETED,insufficient_stock", "expected_reason"),
        ("1,ada,lisbon,earl-grey:1,CANCELLED,", "expected_reason"),
        ("1,ada,lisbon,earl-grey:1,CANCELLED,bad_luck", "expected_reason"),
    ],
)
def test_invalid_stream_order_is_rejected(shop: Path, line: str, field: str) -> None:
    """An order with unknown references, invalid items or a contradictory expected outcome is rejected."""
    path = write_stream(shop, line)
    assert locations(error_of(lambda: load_stream(path))) == [("own.csv", 2, field)]


def test_stream_may_be_outside_the_datasets_folder(shop: Path, tmp_path: Path) -> None:
    """A learner's stream outside the datasets folder is checked against the given data."""
    path = tmp_path / "my-orders.csv"
    path.write_text(f"{STREAM_HEADER}\n1,ada,lisbon,earl-grey:1,COMPLETED,\n", encoding="utf-8")
    assert len(load_stream(path, load_datasets(shop))) == 1


def test_stream_with_invalid_data_reports_the_data(shop: Path) -> None:
    """If the data behind a stream are invalid, the error reports these data."""
    (shop / "customers.csv").unlink()
    assert locations(error_of(lambda: load_stream(shop / "streams" / "load.csv"))) == [("customers.csv", None, None)]


def test_loader_needs_only_the_standard_library() -> None:
    """The loader needs only the standard library, so it costs a service nothing."""
    code = (
        "import sys, sysconfig; before = set(sys.modules); import labservices.datasets;"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "print(*sorted(new))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == ["labservices"]


texts = st.text(st.characters(codec="utf-8"))
cells = st.one_of(texts, st.integers().map(str), st.from_regex(identifier.__globals__["ID_PATTERN"], fullmatch=True))


@given(rows=st.lists(st.lists(cells, min_size=5, max_size=5), min_size=1, max_size=6))
def test_any_table_is_loaded_unchanged_or_reported(rows: list[list[str]]) -> None:
    """For any cell contents, each row is either read back unchanged or reported, never both."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([list(datasets.PRODUCTS), *rows])
        table = Table(path, datasets.PRODUCTS, Product)
    good = [[str(getattr(product, column)) for column in datasets.PRODUCTS] for product in table.values()]
    assert good == [row for row in rows if row in good]
    assert {line for line, _ in table.rows}.isdisjoint(problem.line for problem in table.problems)
    assert len(good) + len({problem.line for problem in table.problems}) == len(rows)


@given(data=st.binary(max_size=200))
def test_any_file_is_loaded_or_rejected(data: bytes) -> None:
    """Any file is either loaded or rejected, however broken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.csv"
        path.write_bytes(PRODUCTS_HEADER.encode() + b"\n" + data)
        table = Table(path, datasets.PRODUCTS, Product)
    assert table.rows or table.problems


@given(st.integers(min_value=-(10**20), max_value=10**20))
def test_whole_numbers_in_range_are_accepted(number: int) -> None:
    """A whole number in plain digits is accepted exactly if it is in range."""
    parse = integer(0, 10**12)
    if 0 <= number <= 10**12:
        assert parse(str(number)) == number
    else:
        with pytest.raises(BadValue):
            parse(str(number))


@given(st.text(string.printable + "é٣²\u200b", max_size=70))
def test_ids_need_no_quoting(text: str) -> None:
    """A valid id needs no quoting in a URL, a shell, a header or a CSV cell."""
    try:
        assert re.fullmatch("[a-z0-9-]{1,64}", identifier(text))
    except BadValue:
        assert not re.fullmatch("[a-z0-9]{1,64}", text)


@given(texts)
def test_valid_names_can_be_stored_unchanged(text: str) -> None:
    """A valid name can be stored by PostgreSQL, and is read unchanged."""
    try:
        assert name(text) == text.strip() != ""
        assert "\x00" not in text
    except BadValue:
        assert not (text.isascii() and text.isalnum() and len(text) <= 200)


@given(texts)
def test_only_three_capital_letters_are_a_currency(text: str) -> None:
    """Only three capital letters of the alphabet are a currency."""
    try:
        assert len(currency(text)) == 3
        assert set(text) <= set(string.ascii_uppercase)
    except BadValue:
        assert not re.fullmatch("[A-Z]{3}", text)
