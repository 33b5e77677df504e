"""Bring a database to the newest schema; run before anything else touches it.

On PostgreSQL each migration is a transaction of its own: one that fails keeps those before it. None waits long for a
table, because everybody who wants the table afterwards waits behind it: it gives up its place and comes again.
"""

import asyncio

from alembic import command
from sqlalchemy import Boolean, Connection, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from corridor.storage import revision
from corridor.storage.database import Database, DatabaseUnavailable, sqlstate, unavailable_when_out_of_reach
from corridor.storage.deadlines import Deadlines

ADVISORY_KEY = (0x4D494752, 0)
"""The turn to migrate ("MIGR"); it is held over all transactions and ends with the session."""
MIGRATING = Deadlines(statement=0, lock=3, idle=600, transaction=0)
"""A migration may rewrite a table for as long as it takes, but `lock` is how long payments may wait for it to begin."""
TRIES = 10
PAUSE_SECONDS = 2.0
TURN_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 0.2
_LOCK_NOT_AVAILABLE = "55P03"


def upgrade(url: str) -> None:
    """Apply every missing migration to the database at `url`. Safe to run from several processes at once.

    Raises `DatabaseUnavailable`, also where a table stayed in use or another process migrates without an end.
    """
    asyncio.run(upgrade_async(url))


async def upgrade_async(url: str) -> None:
    """`upgrade` for callers that already run an event loop."""
    database = Database(url, pool_size=1, deadlines=MIGRATING)
    try:
        if database.is_sqlite:
            await database.write(_upgrade)
            return
        with unavailable_when_out_of_reach():
            async with database.engine.connect() as connection:
                await _take_turn(connection)
                await _upgrade_between_others(connection)
    finally:
        await database.close()


async def _take_turn(connection: AsyncConnection) -> None:
    """Asked for again and again: a session that waits for a lock keeps a snapshot, for which an index that is built
    concurrently would wait in turn."""
    asked = select(func.pg_try_advisory_lock(*ADVISORY_KEY, type_=Boolean))
    try:
        async with asyncio.timeout(TURN_SECONDS):
            while not (await connection.execute(asked)).scalar_one():
                await connection.rollback()
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise DatabaseUnavailable(
            f"another process has been migrating it for {TURN_SECONDS:g} s; nothing was changed here"
        ) from None
    await connection.commit()


async def _upgrade_between_others(connection: AsyncConnection) -> None:
    for tries_left in reversed(range(TRIES)):
        try:
            await connection.run_sync(_upgrade)
        except DBAPIError as error:
            await connection.rollback()
            if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                raise
            if not tries_left:
                raise DatabaseUnavailable(
                    f"a table stayed in use through {TRIES} tries; migrations before that are kept, run it again "
                    "when long transactions have ended"
                ) from error
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


def _upgrade(connection: Connection) -> None:
    config = revision.config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
