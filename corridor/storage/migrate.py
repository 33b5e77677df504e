"""Bring a database to the newest schema; run before anything else touches it."""

import asyncio
from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from corridor.storage.database import Database


def upgrade(url: str) -> None:
    """Apply every missing migration to the database at `url`. Safe to run from several processes in turn."""
    asyncio.run(upgrade_async(url))


async def upgrade_async(url: str) -> None:
    """`upgrade` for callers that already run an event loop."""
    database = Database(url)
    try:
        await database.write(_upgrade)
    finally:
        await database.close()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(files("corridor.storage") / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
