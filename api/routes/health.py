"""Health: `/livez` says the process runs, `/readyz` that it can answer requests. Providers are never part of it."""

import asyncio

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import DBAPIError

from api.dependencies import ApiDependencies, Deps
from api.gateway import TemporalUnavailable
from api.problems import Problem
from api.responses import ok
from api.schemas.problem import problems
from corridor.storage import revision
from corridor.storage.database import DatabaseUnavailable

router = APIRouter(tags=["health"])

OK = "ok"
TEMPORAL_ANSWERS_WITHIN_SECONDS = 0.3
"""A load balancer's own patience is often one second, and what Temporal says here decides nothing."""


@router.get("/livez", responses={200: {"description": "The process answers"}, **problems()})
async def livez() -> Response:
    return ok({"status": OK})


@router.get("/readyz", responses={200: {"description": "Ready for requests"}, **problems()})
async def readyz(request: Request, deps: Deps) -> Response:
    """The database and its schema decide; Temporal is told of.

    Without Temporal new work is refused at its own door (503, nothing accepted), while providers' webhooks are stored,
    and reads, the feed and repeated requests are answered from the database.
    """
    checks = {"database": await _database(deps), "temporal": await _temporal(deps)}
    if request.app.state.is_closing:
        raise Problem("unavailable", "this server is stopping", facts={"checks": checks})
    if checks["database"] != OK:
        raise Problem("unavailable", "not ready for requests", facts={"checks": checks})
    return ok({"status": OK, "checks": checks})


async def _database(deps: ApiDependencies) -> str:
    try:
        schema = await deps.database.read(revision.schema)
    except (DatabaseUnavailable, DBAPIError) as error:
        return f"unavailable ({type(error).__name__})"
    return "schema is older than this code; run the migrations" if schema.is_behind else OK


async def _temporal(deps: ApiDependencies) -> str:
    try:
        async with asyncio.timeout(TEMPORAL_ANSWERS_WITHIN_SECONDS):
            await deps.gateway.require_available()
    except (TemporalUnavailable, TimeoutError):
        return "unavailable"
    return OK
