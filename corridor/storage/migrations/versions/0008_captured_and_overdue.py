"""An index of captured payments by when they should be settled, so that counting the overdue ones reads only those."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

CAPTURED = sa.text("status = 'captured'")


def upgrade() -> None:
    op.create_index(
        "ix_payments_settling", "payments", ["settle_by"], sqlite_where=CAPTURED, postgresql_where=CAPTURED
    )


def downgrade() -> None:
    op.drop_index("ix_payments_settling", "payments")
