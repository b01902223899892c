"""Orders for tests of what watches them."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.shop import Order, Shop


def orders_end(shop: Shop, orders: Iterable[Order]) -> None:
    """See that orders come to their end."""
    for order in orders:
        assert shop.follow(order).status in ("COMPLETED", "CANCELLED")


def shop_goes_on(shop: Shop) -> None:
    """See that the shop takes orders and completes them."""
    orders = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(5)]
    assert {shop.follow(order).status for order in orders} == {"COMPLETED"}
