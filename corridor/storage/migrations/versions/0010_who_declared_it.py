"""Effects name the workflow run that declared them: another run cannot know whether a send is the first."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column(
        "effects",
        sa.Column(
            "declared_by_run",
            sa.String(64),
            nullable=True,
            comment="workflow run; null where a repair declared it, or an older build",
        ),
    )


def downgrade() -> None:
    op.drop_column("effects", "declared_by_run")
