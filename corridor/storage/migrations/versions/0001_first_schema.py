"""First schema: payments, effects, ledger, events, quotes, reviews, settlement, webhooks.

The tables are created from the metadata as it stands at this revision; later revisions alter them by hand.
"""

from alembic import op

from corridor.storage import ledger_tables, tables
from corridor.storage.columns import metadata

revision = "0001"
down_revision = None

APPEND_ONLY = (ledger_tables.postings, ledger_tables.entries, ledger_tables.ledger_seals, tables.events)


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection)
    for table in (table.name for table in APPEND_ONLY):
        for verb in ("UPDATE", "DELETE"):
            if connection.dialect.name == "sqlite":
                _forbid_on_sqlite(table, verb)
            else:
                _forbid_on_postgresql(table, verb)


def _forbid_on_sqlite(table: str, verb: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def _forbid_on_postgresql(table: str, verb: str) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    raise RuntimeError("the ledger's first schema is not removed; restore a backup instead")
