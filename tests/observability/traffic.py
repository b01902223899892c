"""Orders for the tests of observability."""

from __future__ import annotations

from collections.abc import Iterable

from labkit.client.shop import Order, Shop


def assert_orders_become_terminal(shop: Shop, orders: Iterable[Order]) -> None:
    """Assert that orders become terminal."""
    for order in orders:
        assert shop.follow(order).status in ("COMPLETED", "CANCELLED")


def assert_shop_completes_orders(shop: Shop) -> None:
    """Assert that the shop accepts orders and completes them."""
    orders = [shop.place_order("ada", "lisbon", {"earl-grey": 1}) for _ in range(5)]
    assert {shop.follow(order).status for order in orders} == {"COMPLETED"}
