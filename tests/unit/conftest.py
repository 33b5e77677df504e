"""The database of a test, opened and closed: `database` on both kinds, `postgresql` where locks are the point."""

from collections.abc import AsyncIterator

import pytest_asyncio

from corridor.storage.database import Database


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Fresh and migrated, on SQLite and then on PostgreSQL."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def postgresql(postgres_database: str) -> AsyncIterator[Database]:
    """Fresh and migrated, with connections for many transactions at once."""
    opened = Database(postgres_database, pool_size=24)
    yield opened
    await opened.close()
