"""The databases tests run on: both kinds, migrated, and each test alone in its own."""

from sqlalchemy import Connection, text

from corridor.storage.database import Database


def _leave_a_mark(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE mark (n INTEGER)"))


async def _mark(url: str) -> None:
    database = Database(url)
    try:
        await database.write(_leave_a_mark)
    finally:
        await database.close()


async def test_a_database_is_fresh(database_url: str) -> None:
    await _mark(database_url)


async def test_the_next_database_is_fresh_again(database_url: str) -> None:
    await _mark(database_url)
