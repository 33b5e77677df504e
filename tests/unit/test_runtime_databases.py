"""The databases tests run on: both kinds, migrated, and each test alone in its own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, inspect, text

from corridor.runtime.keys import KeyRing
from corridor.runtime.settings import load
from corridor.storage.database import POOL_SECONDS, Database
from workers import wiring
from workflows.steps import RECORDING_SECONDS


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


def _elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """To its end, while a transaction of ours is open."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


async def test_what_is_read_is_one_moment(database_url: str) -> None:
    database = Database(database_url)
    before = await database.read(lambda connection: len(inspect(connection).get_table_names()))

    def tables(connection: Connection) -> int:
        return len(inspect(connection).get_table_names()) - before

    def twice(connection: Connection) -> tuple[int, int]:
        first = tables(connection)
        _elsewhere(_mark(database_url))
        return first, tables(connection)

    assert await database.read(twice) == (0, 0)
    assert await database.read(tables) == 1
    await database.close()


async def test_a_process_has_as_many_connections_as_its_settings_say(key_ring: KeyRing) -> None:
    settings = load(
        database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none"), encryption_keys=key_ring.render(),
        database_pool_size=3, database_pool_overflow=2,
    )  # fmt: skip
    wired = wiring.build(settings)
    pool: Any = wired.edge.database.engine.pool
    assert (pool.size(), pool._max_overflow) == (3, 2)
    assert pool.timeout() == POOL_SECONDS < RECORDING_SECONDS, "an outcome is recorded or known not to be"
    await wired.close()
