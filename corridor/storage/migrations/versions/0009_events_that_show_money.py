"""Provider events say whether they show money, so that one which contradicts our books is not taken for known news."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

STATES = "stored | routed | confirmed | unmatched"


def upgrade() -> None:
    op.add_column(
        "provider_events",
        sa.Column(
            "shows_money",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="shows money held or moved",
        ),
    )
    _states(STATES, f"{STATES} | contradicted")


def downgrade() -> None:
    _states(f"{STATES} | contradicted", STATES)
    op.drop_column("provider_events", "shows_money")


def _states(before: str, after: str) -> None:
    """SQLite keeps no comments."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("provider_events", "state", comment=after, existing_comment=before)
