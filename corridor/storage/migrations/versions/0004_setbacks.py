"""Provider events say whether they take back a success; until now a comparison of two clocks had to tell."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "provider_events",
        sa.Column(
            "is_setback",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="says that what had succeeded no longer holds",
        ),
    )


def downgrade() -> None:
    op.drop_column("provider_events", "is_setback")
