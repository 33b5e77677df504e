"""Payments and refunds keep the request that made them, so that a lost idempotency row can be made again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column(
        "payments",
        sa.Column(
            "idempotency_key",
            sa.String(255),
            comment="of the request that made it; outlives the key's own row",
        ),
    )
    op.add_column("payments", sa.Column("request_fingerprint", sa.String(64)))
    op.add_column(
        "refunds", sa.Column("idempotency_key", sa.String(255), comment="of the request that made it")
    )
    op.add_column("refunds", sa.Column("request_fingerprint", sa.String(64)))


def downgrade() -> None:
    for table in ("payments", "refunds"):
        op.drop_column(table, "request_fingerprint")
        op.drop_column(table, "idempotency_key")
