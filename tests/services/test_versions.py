"""Two versions of the order service on one database."""

from typing import Any

import pytest

from labservices.order.pricing import BULK_QUANTITY, PRICING
from tests.services.world import ServiceHarness, World


@pytest.mark.parametrize(
    ("version", "quantity", "cents"),
    [("v1", 1, 405), ("v1", 10, 405), ("v2", 1, 405), ("v2", 9, 405), ("v2", 10, 365), ("v2", 1000, 365)],
)
def test_v2_discounts_ten_or_more_pieces(version: str, quantity: int, cents: int) -> None:
    """v1 charges the listed price; v2 charges a tenth less, rounded up to a cent, from ten pieces on."""
    assert PRICING[version](405, quantity) == cents


def test_both_versions_share_their_orders(world: World) -> None:
    """Both accept orders at their own price and return the other's orders; every response names its version."""
    url = world.order.runtime.settings.database_url
    canary = ServiceHarness(world.order.service, url, world.order.datasets, service_version="v2")
    try:
        request: dict[str, Any] = {"customer_id": "ada", "destination": "berlin"}
        request["items"] = [{"sku": "mug", "quantity": BULK_QUANTITY}, {"sku": "pot", "quantity": 1}]
        answers = {harness: harness.http.post("/orders", json=request) for harness in (world.order, canary)}
        totals = [answer.json()["total_cents"] for answer in answers.values()]
        assert totals == [10 * 1250 + 4000, 10 * 1125 + 4000]
        assert [answer.headers["x-service-version"] for answer in answers.values()] == ["v1", "v2"]
        for taker, reader in ((world.order, canary), (canary, world.order)):
            taken = answers[taker]
            assert reader.http.get(taken.headers["location"]).json() == taken.json()
    finally:
        canary.app_server.close()
        canary.runtime.database.engine.dispose()


def test_response_repeats_the_request_id(world: World) -> None:
    """Every response repeats the gateway's x-request-id, including errors; without one there is none."""
    for path in ("/orders", "/orders/nonsense"):
        answer = world.order.http.get(path, headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
    assert "x-request-id" not in world.order.http.get("/orders").headers
