"""What a piece costs: the rule in which the two versions of the order service differ.

v1 asks the listed price. v2 is a trial, for a part of the customers at first: who orders ten or more of something gets
each piece a tenth cheaper. Which version takes an order is decided by whoever routes the request.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

Price = Callable[[int, int], int]
"""The price of one piece in cents, given its listed price in cents and how many are ordered."""

BULK_QUANTITY = 10
BULK_PERCENT = 90


def listed_price(listed_cents: int, quantity: int) -> int:
    """Ask what the catalogue says, however many are ordered."""
    return listed_cents


def bulk_price(listed_cents: int, quantity: int) -> int:
    """Ask a tenth less from `BULK_QUANTITY` pieces on, in whole cents, rounded up."""
    if quantity < BULK_QUANTITY:
        return listed_cents
    return -(-listed_cents * BULK_PERCENT // 100)


PRICING: Mapping[str, Price] = MappingProxyType({"v1": listed_price, "v2": bulk_price})
"""The rule of each version."""
