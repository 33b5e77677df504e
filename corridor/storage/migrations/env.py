"""Alembic's entry: migrations run on the connection `migrate.upgrade` hands over, in its transaction."""

from alembic import context

from corridor.storage.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
