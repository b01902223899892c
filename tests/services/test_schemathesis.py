"""Schemathesis reads the four OpenAPI documents, and sends requests that they allow and requests that they forbid."""

from typing import Any

import pytest
import schemathesis
from hypothesis import given, seed
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.services.luck import SEED, example_settings
from tests.services.world import World

load_all_checks()


def errors_are_problems(context: CheckContext, response: Response, case: Case) -> None:
    """An error response is problem+json (RFC 9457)."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"], response.headers
        problem = response.json()
        assert problem["status"] == response.status_code
        assert {"type", "title", "detail"} <= set(problem)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    errors_are_problems,
]


@pytest.mark.parametrize("service", ["order", "inventory", "payment", "shipping"])
def test_every_response_is_documented(world: World, service: str) -> None:
    """Valid and invalid requests to every operation get the documented responses, problems for errors, and no 5xx."""
    schema = schemathesis.openapi.from_url(f"{world.harnesses[service].app_server.url}/openapi.json")
    found = list(schema.get_all_operations())
    operations = [operation.ok() for operation in found if isinstance(operation, Ok)]
    assert len(operations) == len(found) > 0
    for operation in operations:
        send_requests(operation, GenerationMode.POSITIVE)
        if {"parameters", "requestBody"} & set(operation.definition.raw):  # else there is nothing to invalidate
            send_requests(operation, GenerationMode.NEGATIVE)


def send_requests(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> None:
    """Send many requests to one operation."""
    strategy = operation.as_strategy(generation_mode=mode)

    @seed(SEED)
    @example_settings(12)
    @given(case=strategy)
    def send_request(case: Case) -> None:
        case.call_and_validate(checks=CHECKS)

    send_request()
