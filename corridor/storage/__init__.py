"""The platform database: engine, tables, read models, idempotency, inbox and outbox, migrations."""
