"""Every exception a route may end with, and the problem it becomes: the API's one error map."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.problems import KINDS, FieldError, Problem, of_refusal
from corridor.domain.failure import Refused
from corridor.storage.database import DatabaseUnavailable

_OF_PYDANTIC: Mapping[str, str] = {"missing": "missing_parameter", "extra_forbidden": "unknown_field"}
_OF_HTTP: Mapping[int, str] = {404: "not_found", 405: "method_not_allowed"}
_KEY_HEADER = "header/Idempotency-Key"
_SHOWN_ERRORS = 20


def install(app: FastAPI) -> None:
    """Register the map. What is not in it is our own error, caught at the edge."""
    _on(app, Problem, lambda _request, problem: problem)
    _on(app, Refused, lambda _request, refused: of_refusal(refused))
    _on(app, RequestValidationError, lambda _request, error: of_validation(error))
    _on(app, HTTPException, lambda _request, error: of_http(error))
    _on(app, DatabaseUnavailable, lambda request, _error: of_database(request))


def _on(app: FastAPI, kind: type[Exception], problem_of: Callable[[Request, Any], Problem]) -> None:
    async def handle(request: Request, error: Exception) -> Response:
        return problem_of(request, error).response(request.url.path, request.state.request_id)

    app.add_exception_handler(kind, handle)


def of_validation(error: RequestValidationError) -> Problem:
    """All wrong fields; the first one's code is the problem's. Values are never quoted."""
    found = [_field(one) for one in error.errors()[:_SHOWN_ERRORS]]
    first = found[0]
    if first.pointer == _KEY_HEADER:
        return Problem(
            "idempotency_key_missing", "send an Idempotency-Key; it is what makes a repeat safe", found
        )
    return Problem(first.code, f"{first.pointer or 'the body'}: {first.detail}", found)


def of_http(error: HTTPException) -> Problem:
    """What routing itself refuses."""
    code = _OF_HTTP.get(error.status_code, "invalid_parameter")
    return Problem(code, KINDS[code].title, headers=error.headers or {})


def of_database(request: Request) -> Problem:
    """Claims have a handler of their own (`idempotency.claiming`); everything else changed nothing.

    What an earlier request with the same key did is in the database, so without it nobody knows.
    """
    if "Idempotency-Key" not in request.headers:
        return Problem("unavailable", "the database does not answer; nothing was changed")
    return Problem(
        "unavailable",
        "the database does not answer; this request changed nothing, and whether an earlier one with its key did cannot "
        "be seen. Repeat with the same key, which finds out",
        money_state="unknown",
    )


def _field(error: Mapping[str, Any]) -> FieldError:
    code = _OF_PYDANTIC.get(error["type"], error["type"])
    return FieldError(_pointer(error["loc"]), code if code in KINDS else "invalid_parameter", error["msg"])


def _pointer(location: tuple[str | int, ...]) -> str:
    """A JSON Pointer into the body; outside it `query/limit`, `header/If-Match`."""
    place, *path = location
    if place == "body":
        return "".join(
            f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path if part != "[key]"
        )
    return "/".join([str(place), *map(str, path)])
