"""How bodies leave: the one JSON rendering, shared with events and stored answers."""

from collections.abc import Mapping

from fastapi import Response

from corridor.storage.payments import render
from corridor.storage.records import Json


def ok(view: Json, status_code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(render(view), status_code, dict(headers or {}), "application/json")


def object_of(view: Json, version: int) -> Response:
    """One object with its strong ETag."""
    return ok(view, headers={"ETag": f'"{version}"'})


def accepted(view: Json, location: str) -> Response:
    """202: it will be carried out; `location` tells how it went. Never a guess."""
    return ok(view, 202, {"Location": location, "Retry-After": "1"})
