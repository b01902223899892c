"""Malformed requests: every operation of the four APIs answers them properly."""

import json
import re
from copy import deepcopy
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from tests.services.luck import SEED, example_settings
from tests.services.test_fuzz_records import corrupt, junk, raw
from tests.services.test_http import assert_problem
from tests.services.world import World

BODIES: dict[str, Any] = {
    "/orders": {"customer_id": "ada", "destination": "berlin", "items": [{"sku": "mug", "quantity": 1}]},
    "/inventory/products/{sku}/restock": {"quantity": 1},
    "/payments/accounts/{customer_id}/deposit": {"amount_cents": 1},
}
"""A valid body for each operation that accepts one."""

MANAGEMENT = [
    ("GET", "/manage/parked-records"),
    ("POST", "/manage/dead-letters/{parking_id}/replay"),
    ("POST", "/manage/dead-letters/{parking_id}/discard"),
    ("GET", "/manage/consumer"),
]
"""The operations that the OpenAPI documents leave out."""

SLOW = {"/healthz/ready"}
"""Readiness waits for the broker, which does not exist here."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
PARAMETERS = ["limit", "cursor", "status", "customer_id", "order_id", "x"]
header_values = st.binary(max_size=300).map(lambda value: re.sub(rb"[^\t\x20-\x7e\x80-\xff]", b"", value).strip())
texts = st.text(max_size=80) | st.sampled_from(["\0", "..", "%", "' OR 1=1", "-1", "0", "9" * 30, "NaN", "x" * 5000])


def operations_of(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the operations of an API, as method and path."""
    found = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert {path for method, path in found if "requestBody" in document["paths"][path][method.lower()]} <= set(BODIES)
    return sorted([call for call in found if call[1] not in SLOW] + MANAGEMENT)


@st.composite
def requests(draw: st.DrawFn, operations: list[tuple[str, str]], ids: list[str]) -> dict[str, Any]:
    """Generate a request that is slightly wrong."""
    method, path = draw(st.sampled_from(operations))
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(METHODS))
    url = re.sub(r"{\w+}", lambda _: quote(draw(st.sampled_from(ids) | texts), safe=""), path)
    parameters = draw(st.dictionaries(st.sampled_from(PARAMETERS), st.sampled_from(ids) | texts, max_size=2))
    headers = draw(
        st.dictionaries(st.sampled_from(["Idempotency-Key", "traceparent", "Accept", "X"]), header_values, max_size=2)
    )
    body = deepcopy(BODIES.get(path, {}))
    for _ in range(draw(st.integers(0, 2))):
        body = corrupt(draw, body)
    content = draw(st.just(json.dumps(body).encode()) | junk.map(lambda value: json.dumps(value).encode()) | raw)
    headers["Content-Type"] = draw(st.just(b"application/json") | header_values)
    return {"method": method, "url": url, "params": parameters, "headers": headers, "content": content}


@pytest.mark.parametrize("service", ["order", "inventory", "payment", "shipping"])
def test_malformed_requests_never_cause_a_5xx(world: World, service: str) -> None:
    """No response is a 5xx, and each error is a problem with type, title, status and detail."""
    world.place()
    world.place(destination="utopia")
    world.settle()
    http = world.harnesses[service].http
    tables = {"order": "orders", "inventory": "reservations", "payment": "payments", "shipping": "shipments"}
    ids = [str(row[0]) for name, table in tables.items() for row in world.harnesses[name].rows(table)]
    ids += ["mug", "ada", "1", "COMPLETED"]
    seen = set()

    @seed(SEED)
    @example_settings(200)
    @given(request=requests(operations_of(http.get("/openapi.json").json()), ids))
    def send(request: dict[str, Any]) -> None:
        answer = http.request(**request)
        seen.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and request["method"] != "HEAD":
            assert_problem(answer, answer.status_code)

    send()
    assert {200, 404, 405, 422} <= seen
