"""Write the order streams under `datasets/streams/`: python tools/make_streams.py [FOLDER]

The streams come from a fixed seed, so that every lab has the same orders. The data alone determine the outcome of each
order, independent of concurrent orders: orders that complete use stock and balances that can't run out, and orders
that fail request more than ever existed.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labservices.datasets import Datasets, Product, load_datasets

SEED = 20240229
DATASETS = Path(__file__).resolve().parent.parent / "datasets"
NEVER_RUNS_DRY = 1_000_000
UNKNOWN_CUSTOMERS = ("ghost-gustav", "nobody-nell", "phantom-phil")
HEADER = ("position", "customer_id", "destination", "items", "expected_status", "expected_reason")
REASONS = ("insufficient_stock", "unknown_customer", "insufficient_funds", "no_carrier")

Items = list[tuple[str, int]]
Row = tuple[str, str, Items, str | None]  # customer, destination, items, reason

FIRST_ORDERS: list[Row] = [
    ("ada", "lisbon", [("earl-grey", 2)], None),
    ("grace", "berlin", [("sencha", 1), ("glass-teapot", 1)], None),
    ("leslie", "paris", [("first-snow-white", 1)], "insufficient_stock"),
    ("ghost-gustav", "vienna", [("assam-breakfast", 1)], "unknown_customer"),
    ("almost-alma", "rome", [("earl-grey", 2)], "insufficient_funds"),
    ("barbara", "tristan-da-cunha", [("lapsang-souchong", 3)], "no_carrier"),
    ("edsger", "amsterdam", [("genmaicha", 1), ("kintsugi-bowl", 2)], "insufficient_stock"),
    ("hedy", "reykjavik", [("rooibos", 4), ("peppermint", 2), ("chamomile", 2)], None),
]


@dataclass
class Shop:
    """The datasets, and the random numbers of one stream."""

    data: Datasets
    rng: random.Random
    decks: dict[str, list[str]] = field(default_factory=dict)

    def deal(self, name: str, cards: Iterable[str]) -> str:
        """Return the next card of a shuffled deck, so that all cards are equally frequent and do not come in runs."""
        deck = self.decks.setdefault(name, [])
        if not deck:
            deck.extend(cards)
            self.rng.shuffle(deck)
        return deck.pop()

    def available_product(self) -> list[Product]:
        return [product for product in self.data.products if product.on_hand >= NEVER_RUNS_DRY]

    def rich_customer(self) -> str:
        rich = (who.customer_id for who in self.data.customers if who.balance_cents >= 100_000_000)
        return self.deal("rich", rich)

    def served(self) -> str:
        return self.deal("served", (place.destination for place in self.data.destinations if place.carrier))

    def unserved(self) -> str:
        return self.deal("unserved", (place.destination for place in self.data.destinations if not place.carrier))

    def basket(self, most_lines: int) -> Items:
        chosen: dict[str, int] = {}
        for _ in range(self.rng.randint(1, most_lines)):
            chosen[self.deal("products", (product.sku for product in self.available_product()))] = self.rng.randint(
                1, 3
            )
        return list(chosen.items())

    def order(self, reason: str | None, most_lines: int) -> Row:
        """Return an order that fails for this reason, or completes if there is none."""
        customer, destination, items = self.rich_customer(), self.served(), self.basket(most_lines)
        if reason == "insufficient_stock":
            scarce = self.rng.choice([product for product in self.data.products if product.on_hand <= 3])
            items = [*items[: self.rng.randint(0, 1)], (scarce.sku, scarce.on_hand + self.rng.randint(1, 4))]
        elif reason == "unknown_customer":
            customer = self.deal("strangers", UNKNOWN_CUSTOMERS)
        elif reason == "no_carrier":
            destination = self.unserved()
        elif reason == "insufficient_funds":
            prices = {product.sku: product.unit_price_cents for product in self.data.products}
            total = sum(prices[sku] * quantity for sku, quantity in items)
            poor = [who.customer_id for who in self.data.customers if who.balance_cents < total][:4]
            customer = self.rng.choice(poor)
        return customer, destination, items, reason

    def stream(self, length: int, failures: int, most_lines: int = 3) -> Iterator[Row]:
        """Return a stream in which `failures` orders fail, equally often for each reason."""
        outcomes: list[str | None] = [REASONS[number % len(REASONS)] for number in range(failures)]
        outcomes += [None] * (length - failures)
        self.rng.shuffle(outcomes)
        return (self.order(reason, most_lines) for reason in outcomes)


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write one stream."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for position, (customer, destination, items, reason) in enumerate(rows, start=1):
            status = "CANCELLED" if reason else "COMPLETED"
            text = " ".join(f"{sku}:{quantity}" for sku, quantity in items)
            writer.writerow([position, customer, destination, text, status, reason or ""])


def make_streams(folder: Path) -> list[Path]:
    """Write all streams into the folder, and return their paths."""
    data = load_datasets(DATASETS)

    def shop(number: int) -> Shop:
        return Shop(data, random.Random(SEED + number))  # a separate seed per stream, so that one can change alone

    streams: dict[str, Iterable[Row]] = {
        "first-orders": FIRST_ORDERS,
        "busy-morning": shop(1).stream(100, failures=20, most_lines=4),
        "load": shop(2).stream(1000, failures=0, most_lines=2),
        "mixed": shop(3).stream(2000, failures=500),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in streams.items():
        write(folder / f"{name}.csv", rows)
    return [folder / f"{name}.csv" for name in streams]


if __name__ == "__main__":
    for written in make_streams(Path(sys.argv[1]) if len(sys.argv) > 1 else DATASETS / "streams"):
        print(written)
