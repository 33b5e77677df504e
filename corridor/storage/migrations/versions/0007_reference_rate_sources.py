"""Sources of reference rates: which file was read last, and who may ask for the next one when."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "reference_rate_sources",
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True)),
        sa.Column("digest", sa.String(64), comment="SHA-256 of the file that was read last"),
        sa.PrimaryKeyConstraint("source", name="pk_reference_rate_sources"),
    )


def downgrade() -> None:
    op.drop_table("reference_rate_sources")
