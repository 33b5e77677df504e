"""Where all revisions end is what the code's tables say, on both databases; nothing changes without a revision."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, MetaData, String, Table

from corridor.storage import ledger_tables, tables
from corridor.storage.columns import metadata
from corridor.storage.database import Database


async def test_the_revisions_end_where_the_tables_of_the_code_are(database: Database) -> None:
    assert await database.read(_differences, metadata) == []


@pytest.mark.parametrize("of", [tables.payments, ledger_tables.postings], ids=lambda table: table.name)
async def test_a_column_without_a_revision_is_noticed(database: Database, of: Table) -> None:
    changed = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(changed)
    changed.tables[of.name].append_column(Column("planted", String(8)))
    assert "planted" in str(await database.read(_differences, changed))


def _differences(connection: Connection, wanted: MetaData) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), wanted))
