"""The HTTP interface of every service: the app, health checks, metrics and management routes."""

import asyncio
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from labservices.http import problems
from labservices.http.limits import OriginCheck, SizeLimits
from labservices.http.problems import HttpProblem, ProblemDetails, not_found
from labservices.messaging import parking
from labservices.messaging.consumer import EventConsumer
from labservices.service import Service
from labservices.settings import Settings
from labservices.storage.database import Database
from labservices.telemetry import metrics
from labservices.telemetry.exposition import encode_metrics
from labservices.telemetry.tracing import extract_context, span

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

UNTRACED = ("/metrics", "/healthz/", "/manage/")
"""Paths that monitoring polls; their requests are not traced."""

RESPONSE_SECONDS = 5.0
"""Time limit of a request in seconds; a suspended database would otherwise block it forever."""

PREFIX = re.compile(r"(/[\w.~@%-]+)+/?")
"""The path prefixes under which a proxy may serve a service."""

CHECK_SECONDS = 1.0
"""Time limit of a health check in seconds."""


def make_app(
    service: Service, settings: Settings, database: Database, consumer: EventConsumer, lifespan: Lifespan[FastAPI]
) -> FastAPI:
    """Create a service's HTTP app: its own API, and the routes of every service."""
    app = FastAPIOffline(  # serves the pages under /docs without a network, which a workshop may lack
        title=f"Saga Lab: {service.name} service",
        version="1.0",
        description="One of the four services of the lab. Errors are problem details (RFC 9457).",
        lifespan=lifespan,
        redirect_slashes=False,
        # FastAPI's own spans and metrics would duplicate those of Telemetry below.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    problems.install(app)
    router = service.make_router(database, settings)
    app.include_router(router, responses=problems.error_responses(400, 422, 503))
    for route in router.routes:
        if isinstance(route, APIRoute):
            documented = {int(status) for status in route.responses if int(status) < HTTPStatus.BAD_REQUEST}
            for method in sorted(route.methods or ()):
                successes = {route.status_code or HTTPStatus.OK, *documented}
                metrics.initialize_requests(method, route.path, successes)
    app.include_router(_health(database, consumer))
    app.include_router(_management(database, consumer), include_in_schema=False)
    app.add_middleware(BehindPrefix)
    app.add_middleware(SizeLimits)
    app.add_middleware(OriginCheck, further_hosts=settings.allowed_hosts)
    app.add_middleware(RequestTimeout)
    app.add_middleware(Telemetry, version=settings.service_version)
    app.add_middleware(HeadAsGet)
    _document_problems(app)
    return app


class HeadAsGet:
    """Processes a HEAD request as a GET. The server drops the response's body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        # Copied, since the server reads the method from its own dict.
        await self._app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)


class BehindPrefix:
    """Makes the pages under /docs load their assets when a proxy serves the service under a path prefix.

    The proxy sends the prefix in `X-Forwarded-Prefix`, as jupyter-server-proxy does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] == "http":
            prefix = dict(scope["headers"]).get(b"x-forwarded-prefix", b"").decode("latin-1")
            if PREFIX.fullmatch(prefix):
                root = prefix.rstrip("/")
                # Updated in place, since the outer middleware reads the route from this dict.
                scope.update(root_path=root, path=root + scope["path"])
        await self._app(scope, receive, send)


class Telemetry:
    """Counts and times each request, and runs it in a span that continues the caller's trace.

    Each response has the service's version in `x-service-version` and repeats the request's `x-request-id`, which
    identifies the request in the gateway's log.
    """

    def __init__(self, app: ASGIApp, version: str) -> None:
        self._app = app
        self._version = version.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        traced: dict[str, str] | None = None
        start = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"

        async def send_with_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-service-version", self._version), *request_id]
            await send(message)

        headers = dict(scope["headers"])
        request_id = [(b"x-request-id", headers[b"x-request-id"])] if b"x-request-id" in headers else []
        traceparent = headers[b"traceparent"].decode("latin-1") if b"traceparent" in headers else None
        try:
            if scope["path"].startswith(UNTRACED):
                await self._app(scope, receive, send_with_status)
                return
            with span(method, SpanKind.SERVER, extract_context(traceparent)) as current:
                await self._app(scope, receive, send_with_status)
                traced = metrics.exemplar()
                _describe(current, method, _route(scope), status)
        finally:
            metrics.HTTP_REQUESTS.labels(method, _route(scope), status).inc()
            metrics.HTTP_DURATION.labels(method, _route(scope)).observe(time.perf_counter() - start, traced)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")


def _describe(current: Span, method: str, route: str, status: int) -> None:
    """Set the name, attributes and status of a request's span.

    Source: OpenTelemetry's semantic conventions for HTTP.
    """
    current.update_name(f"{method} {route}")
    current.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
    if status >= 500:
        current.set_status(StatusCode.ERROR)


class RequestTimeout:
    """Responds with 503 when a request times out. The request's work continues, or hangs, without a client."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        responding = timed_out = False

        async def send_unless_timed_out(message: Message) -> None:
            nonlocal responding
            if not timed_out:
                responding = True
                await send(message)

        async def respond() -> None:
            await self._app(scope, receive, send_unless_timed_out)

        request = asyncio.create_task(respond())
        await asyncio.wait({request}, timeout=RESPONSE_SECONDS)
        if request.done() or responding:
            await request
            return
        timed_out = True
        detail = "no response in time; the request may have been processed (an Idempotency-Key makes it safe to retry)"
        problem = HttpProblem(503, "no-answer-in-time", detail, headers={"Retry-After": "1"})
        await problem.response()(scope, receive, send)


class Check:
    """A health check that returns within ``CHECK_SECONDS``.

    A database that is suspended during a query blocks its client forever. So the check runs in a thread, at most one at
    a time.
    """

    def __init__(self, probe: Callable[[], None]) -> None:
        self._probe = probe
        self._running: asyncio.Task[str] | None = None

    async def __call__(self) -> str:
        """Return ``ok``, or a description of the problem."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(run_in_threadpool(self._result))
        done, _ = await asyncio.wait({self._running}, timeout=CHECK_SECONDS)
        return self._running.result() if done else f"no response within {CHECK_SECONDS:g} s"

    def _result(self) -> str:
        try:
            self._probe()
        except Exception as error:
            return str(error) or repr(error)
        return "ok"


def _health(database: Database, consumer: EventConsumer) -> APIRouter:
    router = APIRouter(tags=["health"])
    check_database = Check(database.ping)
    check_broker = Check(lambda: consumer.check_broker(CHECK_SECONDS / 2))

    @router.get("/healthz/live")
    async def live() -> dict[str, str]:
        """Report that the process is running, even if the database and the broker are unavailable."""
        return {"status": "live"}

    @router.get("/healthz/ready", responses=problems.error_responses(503))
    async def ready() -> dict[str, Any]:
        """Report whether the service can process requests.

        Without its database, the service can't process any request. Without the broker, it still accepts orders, and
        their events wait in the outbox; the status is then `degraded`.
        """
        results = await asyncio.gather(check_database(), check_broker())
        checks = dict(zip(("database", "broker"), results, strict=True))
        if checks["database"] != "ok":
            raise HttpProblem(503, "not-ready", f"database: {checks['database']}", members={"checks": checks})
        status = "ready" if checks["broker"] == "ok" else "degraded"
        return {"status": status, "checks": checks, "consumer": consumer.state()["state"]}

    @router.get("/metrics", response_class=Response)
    async def read_metrics(request: Request) -> Response:
        """Return the metrics for Prometheus; in the OpenMetrics format, they have exemplars."""
        content, media_type = encode_metrics(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return router


def _management(database: Database, consumer: EventConsumer) -> APIRouter:
    router = APIRouter(prefix="/manage")

    @router.get("/consumer")
    async def state() -> dict[str, Any]:
        return consumer.state()

    @router.post("/consumer/pause")
    def pause() -> dict[str, Any]:
        if not consumer.pause():
            raise HttpProblem(503, "still-consuming", "the consumer has not finished its record yet; try again")
        return consumer.state()

    @router.post("/consumer/resume")
    async def resume() -> dict[str, Any]:
        consumer.resume()
        return consumer.state()

    @router.get("/parked-records")
    def parked_records() -> dict[str, Any]:
        """List the parked records: dead letters, records behind them, and records that will be retried."""
        with database.transaction() as tx:
            return {"items": parking.list_parked(tx.connection), "next_cursor": None}

    @router.post("/dead-letters/{parking_id}/replay", status_code=202)
    def replay(parking_id: int) -> dict[str, Any]:
        """Replay a dead letter; the records that are parked behind it follow."""
        with database.transaction() as tx:
            if not parking.replay(tx.connection, parking_id):
                raise not_found("dead letter", parking_id)
        consumer.check_parked_records()
        return {"parking_id": parking_id}

    @router.post("/dead-letters/{parking_id}/discard")
    def discard(parking_id: int) -> dict[str, Any]:
        """Drop a dead letter permanently; the records that are parked behind it follow."""
        with database.transaction() as tx:
            if not parking.discard(tx.connection, parking_id):
                raise not_found("dead letter", parking_id)
        consumer.check_parked_records()
        return {"parking_id": parking_id}

    return router


def _document_problems(app: FastAPI) -> None:
    """Replace FastAPI's error schemas in the OpenAPI document with that of problem details."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas["ProblemDetails"] = problem
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
