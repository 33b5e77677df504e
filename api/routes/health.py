"""Health: `/livez` says the process runs, `/readyz` that it can accept work. Providers are never part of it."""

from functools import cache
from importlib.resources import files

from alembic.config import Config
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Response
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from api.dependencies import ApiDependencies, Deps
from api.gateway import TemporalUnavailable
from api.problems import Problem
from api.responses import ok
from api.schemas.problem import problems
from corridor.storage.database import DatabaseUnavailable

router = APIRouter(tags=["health"])

OK = "ok"


@router.get("/livez", responses={200: {"description": "The process answers"}, **problems()})
async def livez() -> Response:
    return ok({"status": OK})


@router.get("/readyz", responses={200: {"description": "Ready for new work"}, **problems()})
async def readyz(deps: Deps) -> Response:
    """Database, its schema, and Temporal's front end."""
    checks = {"database": await _database(deps), "temporal": await _temporal(deps)}
    if any(state != OK for state in checks.values()):
        raise Problem("unavailable", "not ready for new work", facts={"checks": checks})
    return ok({"status": OK, "checks": checks})


async def _database(deps: ApiDependencies) -> str:
    try:
        revision = await deps.database.read(_revision)
    except (DatabaseUnavailable, DBAPIError) as error:
        return f"unavailable ({type(error).__name__})"
    return OK if revision == newest_revision() else "schema is not the newest; run the migrations"


async def _temporal(deps: ApiDependencies) -> str:
    try:
        await deps.gateway.require_available()
    except TemporalUnavailable:
        return "unavailable"
    return OK


def _revision(connection: Connection) -> str | None:
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


@cache
def newest_revision() -> str | None:
    """The revision this code was written for."""
    config = Config()
    config.set_main_option("script_location", str(files("corridor.storage") / "migrations"))
    return ScriptDirectory.from_config(config).get_current_head()
