"""Outages of providers, so that new work is refused at the door while a provider is down."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "provider_outages",
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False, comment="unreachable | failing"),
        sa.Column("detail", sa.String(200), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "cause", name="pk_provider_outages"),
    )


def downgrade() -> None:
    op.drop_table("provider_outages")
