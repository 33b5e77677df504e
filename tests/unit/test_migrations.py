"""Where all revisions end is what the code's tables say, on both databases; and they get there beside others."""

import asyncio
import os
import sys
from dataclasses import replace
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, String, Table, text
from sqlalchemy.exc import DBAPIError

from corridor.storage import ledger_tables, migrate, rate_tables, tables
from corridor.storage.columns import metadata
from corridor.storage.database import Database, DatabaseUnavailable

AT_ALL_SECONDS = 60


async def test_the_revisions_end_where_the_tables_of_the_code_are(database: Database) -> None:
    assert await database.read(_differences, metadata) == []


@pytest.mark.parametrize(
    "of", [tables.payments, ledger_tables.postings, rate_tables.reference_rates], ids=lambda table: table.name
)
async def test_a_column_without_a_revision_is_noticed(database: Database, of: Table) -> None:
    changed = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(changed)
    changed.tables[of.name].append_column(Column("planted", String(8)))
    assert "planted" in str(await database.read(_differences, changed))


def _differences(connection: Connection, wanted: MetaData) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), wanted))


async def test_two_commands_that_migrate_an_empty_database_at_once_both_succeed(
    empty_postgres_database: str,
) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_postgres_database}
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.cli", "migrate", env=environment, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    async with asyncio.timeout(AT_ALL_SECONDS):
        ended = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0, 0], ended
    database = Database(empty_postgres_database)
    assert await database.read(_differences, metadata) == []
    await database.close()


async def test_a_migration_that_fails_keeps_those_before_it(empty_postgres_database: str) -> None:
    database = Database(empty_postgres_database)
    await database.write(lambda it: it.execute(text("CREATE TABLE operator_acts (n INTEGER)")) and None)
    with pytest.raises(DBAPIError):
        await migrate.upgrade_async(empty_postgres_database)
    assert await database.read(_revision) == "0005"
    await database.write(lambda it: it.execute(text("DROP TABLE operator_acts")) and None)
    await migrate.upgrade_async(empty_postgres_database)
    assert await database.read(_differences, metadata) == []
    await database.close()


async def test_a_table_in_use_is_asked_for_again_and_nobody_waits_long_behind_it(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "MIGRATING", replace(migrate.MIGRATING, lock=0.05))
    monkeypatch.setattr(migrate, "PAUSE_SECONDS", 0.01)
    database, tried, upgrade = Database(postgres_database), asyncio.Event(), migrate._upgrade

    def noted(connection: Connection) -> None:
        tried.set()
        upgrade(connection)

    async with asyncio.timeout(AT_ALL_SECONDS):
        async with database.engine.begin() as connection:
            await connection.execute(text("LOCK TABLE alembic_version"))
            with pytest.raises(DatabaseUnavailable, match="stayed in use"):
                await migrate.upgrade_async(postgres_database)
            monkeypatch.setattr(migrate, "TRIES", 10_000)
            monkeypatch.setattr(migrate, "_upgrade", noted)
            waiting = asyncio.create_task(migrate.upgrade_async(postgres_database))
            await tried.wait()
        await waiting
    await database.close()


async def test_a_migration_elsewhere_that_does_not_end_is_told(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "TURN_SECONDS", 0.1)
    database = Database(postgres_database)
    async with database.engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(:key, 0)"), {"key": migrate.ADVISORY_KEY[0]})
        with pytest.raises(DatabaseUnavailable, match="another process"):
            await migrate.upgrade_async(postgres_database)
    await database.close()


def _revision(connection: Connection) -> str:
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
