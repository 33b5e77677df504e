"""Bulk writers: rows in the order of a table's columns, put into SQLite or PostgreSQL as fast as each takes them."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Boolean, Table
from sqlalchemy.engine import make_url

from corridor.storage.database import Database
from corridor.storage.deadlines import UNHURRIED

Rows = Sequence[tuple[Any, ...]]


class Sink(Protocol):
    """Takes whole batches; nothing is promised to be there before `opened` is left."""

    moment: Callable[[datetime], Any]
    """How this database stores a time."""

    async def write(self, table: Table, rows: Rows) -> None:
        """Append the rows."""
        ...

    async def count_on(self, tables: Sequence[Table]) -> None:
        """Let the ids the database gives itself go on from what was written."""
        ...


class SqliteSink:
    """The blocking driver itself; foreign keys are checked at the end instead of row by row."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.moment: Callable[[datetime], Any] = _sqlite_moment

    async def write(self, table: Table, rows: Rows) -> None:
        names = ", ".join(f'"{column.name}"' for column in table.c)
        marks = ", ".join("?" * len(table.c))
        self._connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608 — ours
        self._connection.commit()

    async def count_on(self, tables: Sequence[Table]) -> None:
        """SQLite numbers from the highest id that is there."""


class PostgresSink:
    """COPY."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.moment: Callable[[datetime], Any] = lambda moment: moment

    async def write(self, table: Table, rows: Rows) -> None:
        names = [column.name for column in table.c]
        truths = [number for number, column in enumerate(table.c) if isinstance(column.type, Boolean)]
        records = (_with_truths(row, truths) for row in rows) if truths else rows
        await self._connection.copy_records_to_table(table.name, records=records, columns=names)

    async def count_on(self, tables: Sequence[Table]) -> None:
        for table in tables:
            highest = f"(SELECT max(id) FROM {table.name})"  # noqa: S608 — our own tables
            sequence = f"pg_get_serial_sequence('{table.name}', 'id')"
            await self._connection.execute(f"SELECT setval({sequence}, {highest})")


def _with_truths(row: Sequence[Any], truths: Sequence[int]) -> list[Any]:
    """SQLite, where the moulds come from, knows only 0 and 1."""
    found = [*row]
    for number in truths:
        found[number] = bool(found[number])
    return found


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Sink]:
    """A sink on a migrated database; on leaving everything is checked, and as well known as in daily work."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(make_url(url).database or "")) as lite:
            for pragma in ("foreign_keys=OFF", "synchronous=OFF", "cache_size=-262144"):
                lite.execute(f"PRAGMA {pragma}")
            yield SqliteSink(lite)
            lite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        async with postgres_driver(url) as driver:
            yield PostgresSink(driver)
            # What autovacuum does in a database that was filled by its own traffic.
            await driver.execute("VACUUM ANALYZE")


@contextlib.asynccontextmanager
async def postgres_driver(url: str) -> AsyncIterator[Any]:
    """asyncpg's own connection, outside any transaction: for COPY and for what no transaction may hold."""
    database = Database(url, pool_size=1, deadlines=UNHURRIED)
    async with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        yield (await connection.get_raw_connection()).driver_connection
    await database.close()


def _sqlite_moment(moment: datetime) -> str:
    """As SQLAlchemy writes it: UTC without a zone, microseconds always."""
    return moment.replace(tzinfo=None).isoformat(" ", "microseconds")
