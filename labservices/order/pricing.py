"""Pricing: the rule that differs between the two versions of the order service.

v1 charges the listed price. v2 is a trial that serves only part of the customers at first: for ten or more pieces of a
product, each piece is a tenth cheaper. The routing of the request decides which version handles an order.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

Price = Callable[[int, int], int]
"""The price of one piece in cents, given its listed price in cents and the ordered quantity."""

BULK_QUANTITY = 10
BULK_PERCENT = 90


def listed_price(listed_cents: int, quantity: int) -> int:
    """Return the listed price, whatever the quantity."""
    return listed_cents


def bulk_price(listed_cents: int, quantity: int) -> int:
    """Return a price reduced by a tenth from `BULK_QUANTITY` pieces on, rounded up to whole cents."""
    if quantity < BULK_QUANTITY:
        return listed_cents
    return -(-listed_cents * BULK_PERCENT // 100)


PRICING: Mapping[str, Price] = MappingProxyType({"v1": listed_price, "v2": bulk_price})
"""The pricing rule of each version."""
