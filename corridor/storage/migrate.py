"""Bring a database to the newest schema; run before anything else touches it."""

import asyncio

from alembic import command
from sqlalchemy import Connection

from corridor.storage import revision
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
    config = revision.config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
