"""Error responses of the HTTP APIs: problem details, RFC 9457."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from labservices.storage.unavailable import DatabaseUnavailable

TITLES = {
    400: "Bad request",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    422: "Unprocessable content",
    431: "Request header fields too large",
    500: "Internal error",
    503: "Unavailable",
}

MAX_ERRORS = 20
"""Number of validation errors that a response lists."""

MAX_TEXT = 200
"""Maximum length of each text in a listed validation error; such a text may repeat parts of the request."""


class FieldError(BaseModel):
    """The problem with one part of a request."""

    pointer: str
    detail: str


class ProblemDetails(BaseModel):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None


class HttpProblem(Exception):
    """An error that is returned as the response to a request.

    Parameters
    ----------
    status
        The HTTP status.
    name
        The last part of the problem's ``type``.
    detail
        A sentence that describes the problem with this request.
    errors
        For a validation error: pairs of the invalid part (a JSON pointer, or a parameter's name) and the problem.
    headers
        HTTP headers of the response.
    members
        Additional members of the response body.
    """

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        errors: list[tuple[str, str]] | None = None,
        headers: dict[str, str] | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.errors = errors
        self.headers = headers
        self.members = members or {}

    def response(self) -> JSONResponse:
        """Return the problem as an HTTP response."""
        body: dict[str, Any] = {
            "type": f"urn:sagalab:problem:{self.name}",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        if self.errors is not None:
            body["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in self.errors]
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


def not_found(what: str, which: object) -> HttpProblem:
    """Return the problem for a resource that does not exist."""
    return HttpProblem(404, "not-found", f"{what} {which} does not exist")


def invalid(pointer: str, detail: str) -> HttpProblem:
    """Return the problem for one invalid part of a request."""
    return HttpProblem(422, "invalid-request", "the request is not valid", [(pointer, detail)])


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of a route's error responses."""
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    content = {"application/problem+json": {"schema": schema}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}


def install(app: FastAPI) -> None:
    """Install the handlers that return every error of the app as problem details."""

    @app.exception_handler(HttpProblem)
    async def problem(request: Request, error: HttpProblem) -> JSONResponse:
        return error.response()

    @app.exception_handler(DatabaseUnavailable)
    async def database_unavailable(request: Request, error: DatabaseUnavailable) -> JSONResponse:
        detail, headers = "nothing was changed, so try again later", {"Retry-After": "1"}
        if error.may_be_committed and request.method not in ("GET", "HEAD"):
            # No Retry-After: a client that repeats the request at once could make the change twice.
            headers = {}
            detail = (
                "the connection broke during the commit, so the change may have been made; read its result before you "
                "try again (at POST /orders, an Idempotency-Key makes it safe to retry)"
            )
        return HttpProblem(
            503, "database-away", f"the service's database {error.reason}; {detail}", headers=headers
        ).response()

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        errors = [(_pointer(one["loc"]), str(one["msg"])) for one in found[:MAX_ERRORS]]
        if any(one["loc"] == ("body",) for one in found) and not _is_json(request):
            errors.insert(0, ("content-type", f"expected application/json, found {_content_type(request)}"))
        more = f"; {len(errors)} of {len(found)} errors are listed" if len(found) > MAX_ERRORS else ""
        errors = [(_short(pointer), _short(detail)) for pointer, detail in errors[:MAX_ERRORS]]
        return HttpProblem(422, "invalid-request", f"the request is not valid{more}", errors).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        name = TITLES.get(error.status_code, "error").lower().replace(" ", "-")
        return HttpProblem(error.status_code, name, str(error.detail), headers=dict(error.headers or {})).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return HttpProblem(500, "internal-error", "the service failed; see its log for the cause").response()


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "none").partition(";")[0].strip()


def _is_json(request: Request) -> bool:
    kind = _content_type(request).lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def _pointer(location: tuple[int | str, ...]) -> str:
    """Return a location in the body as a JSON pointer (``#/items/0/sku``), any other as the parameter's name."""
    where, *path = location
    if where != "body":
        return str(path[0]) if path else str(where)
    return "#" + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)
