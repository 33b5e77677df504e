"""The record of what operators did: an act is begun, ended once, and never changed or removed after that."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

KEPT = ("id", "at", "who", "command")
"""What stays as it was begun. JSON is compared as text: PostgreSQL knows no equality of it."""


def upgrade() -> None:
    op.create_table(
        "operator_acts",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "who", sa.String(128), nullable=False, comment="an operator's name, user@host, or the id of a key"
        ),
        sa.Column("command", sa.String(64), nullable=False),
        sa.Column("words", sa.JSON(), nullable=False, comment="what it was given; never a secret"),
        sa.Column("outcome", sa.String(64), comment="null: begun, and nobody wrote how it ended"),
        sa.Column("result", sa.JSON(), nullable=False, comment="what it made or moved; never a secret"),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_operator_acts"),
    )
    if op.get_bind().dialect.name == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'operator_acts is append-only'); END"
        op.execute(f"CREATE TRIGGER operator_acts_no_delete BEFORE DELETE ON operator_acts {refuse}")
        op.execute(
            f"CREATE TRIGGER operator_acts_ends_once BEFORE UPDATE ON operator_acts WHEN {_not_its_end()} {refuse}"
        )
    else:
        # The function is the ledger's, from the first migration.
        refuse = "EXECUTE FUNCTION refuse_change()"
        op.execute(
            f"CREATE TRIGGER operator_acts_no_delete BEFORE DELETE ON operator_acts FOR EACH STATEMENT {refuse}"
        )
        op.execute(
            "CREATE TRIGGER operator_acts_ends_once BEFORE UPDATE ON operator_acts "
            f"FOR EACH ROW WHEN ({_not_its_end('::text')}) {refuse}"
        )


def _not_its_end(as_text: str = "") -> str:
    changed = " OR ".join(f"NEW.{name} <> OLD.{name}" for name in KEPT)
    return (
        "OLD.finished_at IS NOT NULL OR NEW.finished_at IS NULL OR NEW.outcome IS NULL "
        f"OR NEW.words{as_text} <> OLD.words{as_text} OR {changed}"
    )


def downgrade() -> None:
    raise RuntimeError("the record of operators' acts is not removed; older code works beside it")
