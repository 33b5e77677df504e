"""Alembic's entry: migrations run on the connection that `corridor.storage.migrate` hands over.

On PostgreSQL each is a transaction of its own; on SQLite that connection is in one already, and all share it.

An index on a table that has traffic is a migration by itself, so that writers do not wait until it is built:
on PostgreSQL `with op.get_context().autocommit_block():` around `op.create_index(…, postgresql_concurrently=True,
if_not_exists=True)`, on SQLite a plain `op.create_index`. If it is cut off, an INVALID index of that name is left: drop
it first, with `DROP INDEX CONCURRENTLY IF EXISTS`, in the same block.
"""

from alembic import context

from corridor.storage.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
