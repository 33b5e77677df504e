"""Indexes for reads that walked all of history: by reference, of one payment, by status, and what was never started."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

UNSTARTED = sa.text("workflow_started_at IS NULL")


def upgrade() -> None:
    op.create_index(
        "ix_payments_merchant_reference",
        "payments",
        ["merchant_id", "merchant_reference", "created_at", "id"],
    )
    op.create_index("ix_refunds_merchant_status", "refunds", ["merchant_id", "status", "created_at", "id"])
    op.drop_index("ix_refunds_payment_id", "refunds")
    op.create_index("ix_refunds_payment", "refunds", ["payment_id", "merchant_id", "created_at", "id"])
    for table in ("payments", "refunds"):
        op.drop_index(f"ix_{table}_unstarted", table)
        op.create_index(
            f"ix_{table}_unstarted", table, ["id"], sqlite_where=UNSTARTED, postgresql_where=UNSTARTED
        )


def downgrade() -> None:
    for table in ("payments", "refunds"):
        op.drop_index(f"ix_{table}_unstarted", table)
        op.create_index(
            f"ix_{table}_unstarted", table, ["created_at"], sqlite_where=UNSTARTED, postgresql_where=UNSTARTED
        )
    op.drop_index("ix_refunds_payment", "refunds")
    op.create_index("ix_refunds_payment_id", "refunds", ["payment_id"])
    op.drop_index("ix_refunds_merchant_status", "refunds")
    op.drop_index("ix_payments_merchant_reference", "payments")
