"""First schema: payments, effects, ledger, events, quotes, reviews, settlement, webhooks.

Written out, not taken from the code's tables: those move on, and a new database must pass through every revision
exactly as an old one did. A test compares where all revisions end with the tables of the code.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SCHEMA = sa.MetaData()
MOMENT = sa.DateTime(timezone=True)
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
PATH = sa.String(160).with_variant(sa.String(160, collation="C"), "postgresql")
APPEND_ONLY = ("postings", "entries", "ledger_seals", "events")

sa.Table(
    "accounts",
    SCHEMA,
    sa.Column("account", PATH, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.PrimaryKeyConstraint("account", name="pk_accounts"),
)
sa.Table(
    "events",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("object_type", sa.String(16), nullable=False),
    sa.Column("object_id", sa.String(64), nullable=False),
    sa.Column("sequence", sa.Integer(), nullable=False, comment="per object, from 1, without gaps"),
    sa.Column("type", sa.String(48), nullable=False),
    sa.Column("data", sa.JSON(), nullable=False, comment="snapshot of the object, frozen at the transition"),
    sa.Column("previous", sa.JSON(), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_events"),
    sa.UniqueConstraint("object_id", "sequence", name="uq_events_object_id_sequence"),
)
sa.Table(
    "idempotency_keys",
    SCHEMA,
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("key", sa.String(255), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("resource_id", sa.String(64), nullable=False),
    sa.Column("lease_until", MOMENT, nullable=False),
    sa.Column("status_code", sa.Integer(), comment="null while in flight"),
    sa.Column("location", sa.String(255)),
    sa.Column("body", sa.Text(), comment="the answer, byte for byte"),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("merchant_id", "key", name="pk_idempotency_keys"),
)
sa.Index("ix_idempotency_keys_resource_id", SCHEMA.tables["idempotency_keys"].c["resource_id"])
sa.Table(
    "ledger_seals",
    SCHEMA,
    sa.Column("seal_number", NUMBER, autoincrement=False, nullable=False),
    sa.Column("posting_id", NUMBER, nullable=False),
    sa.Column(
        "hash",
        sa.String(64),
        nullable=False,
        comment="SHA-256 over the previous hash and the posting's digest",
    ),
    sa.Column("sealed_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("seal_number", name="pk_ledger_seals"),
    sa.UniqueConstraint("posting_id", name="uq_ledger_seals_posting_id"),
)
sa.Table(
    "merchants",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("country", sa.String(2), nullable=False),
    sa.Column("settle_currency", sa.String(3), nullable=False),
    sa.Column("fee_bps", sa.Integer(), nullable=False),
    sa.Column("fx_markup_bps", sa.Integer(), nullable=False),
    sa.Column("statement_suffix", sa.String(22)),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_merchants"),
)
sa.Table(
    "postings",
    SCHEMA,
    sa.Column("id", NUMBER, autoincrement=True, nullable=False),
    sa.Column("key", sa.String(160), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("object_id", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, comment="SHA-256 of the canonical posting"),
    sa.Column("posted_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_postings"),
    sa.UniqueConstraint("key", name="uq_postings_key"),
)
sa.Index("ix_postings_object_id", SCHEMA.tables["postings"].c["object_id"])
sa.Table(
    "provider_events",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("provider_event_id", sa.String(128), nullable=False),
    sa.Column("type", sa.String(96), nullable=False),
    sa.Column("payment_id", sa.String(64)),
    sa.Column("effect_key", sa.String(128)),
    sa.Column("provider_reference", sa.String(128)),
    sa.Column("body", sa.LargeBinary(), nullable=False, comment="raw bytes, sealed"),
    sa.Column("state", sa.String(16), nullable=False, comment="stored | routed | confirmed | unmatched"),
    sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("received_at", MOMENT, nullable=False),
    sa.Column("due_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_provider_events"),
    sa.UniqueConstraint(
        "provider", "provider_event_id", name="uq_provider_events_provider_provider_event_id"
    ),
)
sa.Index(
    "ix_provider_events_due",
    SCHEMA.tables["provider_events"].c["state"],
    SCHEMA.tables["provider_events"].c["due_at"],
)
sa.Table(
    "reference_rates",
    SCHEMA,
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("as_of", sa.String(10), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("rate", sa.String(32), nullable=False, comment="units per 1 EUR, as published"),
    sa.PrimaryKeyConstraint("source", "as_of", "currency", name="pk_reference_rates"),
)
sa.Table(
    "settlement_batches",
    SCHEMA,
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("batch_id", sa.String(128), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, comment="importing | imported | unbalanced"),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("total_minor", sa.BigInteger(), nullable=False),
    sa.Column("lines_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    sa.Column("line_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("bad_row_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("cursor", sa.String(128)),
    sa.Column("arrives_at", MOMENT, nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("imported_at", MOMENT),
    sa.PrimaryKeyConstraint("provider", "batch_id", name="pk_settlement_batches"),
)
sa.Table(
    "settlement_lines",
    SCHEMA,
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("line_id", sa.String(128), nullable=False),
    sa.Column("batch_id", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("payment_id", sa.String(64)),
    sa.Column("effect_key", sa.String(128)),
    sa.Column("body", sa.JSON(), nullable=False, comment="SettlementLine, or the raw text of a bad row"),
    sa.Column("state", sa.String(16), nullable=False, comment="staged | signaled | posted | unmatched | bad"),
    sa.Column("reason", sa.String(200)),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.PrimaryKeyConstraint("provider", "line_id", name="pk_settlement_lines"),
)
sa.Index("ix_settlement_lines_payment_id", SCHEMA.tables["settlement_lines"].c["payment_id"])
sa.Index(
    "ix_settlement_lines_state",
    SCHEMA.tables["settlement_lines"].c["state"],
    SCHEMA.tables["settlement_lines"].c["batch_id"],
)
sa.Table(
    "unpositioned_events",
    SCHEMA,
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.PrimaryKeyConstraint("event_id", name="pk_unpositioned_events"),
    comment="outbox of events the sequencer has not placed yet; written with the event",
)
sa.Table(
    "account_balances",
    SCHEMA,
    sa.Column("account", PATH, nullable=False),
    sa.Column(
        "shard",
        sa.Integer(),
        autoincrement=False,
        nullable=False,
        comment="0: the one row of an account that may not go into debit; others share shards 1 to n",
    ),
    sa.Column(
        "balance_minor",
        sa.BigInteger(),
        nullable=False,
        comment="debits minus credits; an account's balance is the sum of its shards",
    ),
    sa.CheckConstraint("shard <> 0 OR balance_minor <= 0", name="no_overdraft"),
    sa.ForeignKeyConstraint(["account"], ["accounts.account"], name="fk_account_balances_account"),
    sa.PrimaryKeyConstraint("account", "shard", name="pk_account_balances"),
)
sa.Table(
    "api_keys",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), comment="null: an operator's key"),
    sa.Column("role", sa.String(16), nullable=False, comment="merchant | operator"),
    sa.Column("secret_hmac", sa.LargeBinary(), nullable=False),
    sa.Column("pepper_id", sa.String(32), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("revoked_at", MOMENT),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_api_keys_merchant_id"),
    sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
)
sa.Table(
    "entries",
    SCHEMA,
    sa.Column("posting_id", NUMBER, nullable=False),
    sa.Column("leg", sa.Integer(), nullable=False),
    sa.Column("account", sa.String(160), nullable=False),
    sa.Column("amount_minor", sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(["account"], ["accounts.account"], name="fk_entries_account"),
    sa.ForeignKeyConstraint(["posting_id"], ["postings.id"], name="fk_entries_posting_id"),
    sa.PrimaryKeyConstraint("posting_id", "leg", name="pk_entries"),
)
sa.Index(
    "ix_entries_account", SCHEMA.tables["entries"].c["account"], SCHEMA.tables["entries"].c["posting_id"]
)
sa.Table(
    "event_positions",
    SCHEMA,
    sa.Column(
        "position",
        NUMBER,
        autoincrement=False,
        nullable=False,
        comment="order of the merchant-wide feed, given after commit by the one sequencer",
    ),
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("dispatched_at", MOMENT),
    sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_event_positions_event_id"),
    sa.PrimaryKeyConstraint("position", name="pk_event_positions"),
    sa.UniqueConstraint("event_id", name="uq_event_positions_event_id"),
)
sa.Index(
    "ix_event_positions_merchant",
    SCHEMA.tables["event_positions"].c["merchant_id"],
    SCHEMA.tables["event_positions"].c["position"],
)
sa.Index(
    "ix_event_positions_undispatched",
    SCHEMA.tables["event_positions"].c["position"],
    sqlite_where=sa.text("dispatched_at IS NULL"),
    postgresql_where=sa.text("dispatched_at IS NULL"),
)
sa.Table(
    "payments",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("merchant_reference", sa.String(128)),
    sa.Column("status", sa.String(24), nullable=False),
    sa.Column("status_reason", sa.String(48)),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("amount_minor", sa.BigInteger(), nullable=False),
    sa.Column("amount_captured_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    sa.Column(
        "amount_refund_reserved_minor",
        sa.BigInteger(),
        server_default=sa.text("0"),
        nullable=False,
        comment="refunds accepted, not yet proven",
    ),
    sa.Column("amount_refunded_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    sa.Column("settle_currency", sa.String(3), nullable=False),
    sa.Column("settled_minor", sa.BigInteger(), comment="what the merchant got, in settle_currency"),
    sa.Column("settled_charged_minor", sa.BigInteger(), comment="of the captured money, what was converted"),
    sa.Column(
        "settled_converted_minor",
        sa.BigInteger(),
        comment="before fees, in settle_currency: basis of refunds",
    ),
    sa.Column("source_country", sa.String(2), nullable=False, comment="the buyer's"),
    sa.Column("destination_country", sa.String(2), nullable=False, comment="the merchant's"),
    sa.Column("corridor", sa.String(16), nullable=False, comment="DE-EUR>CN-CNY"),
    sa.Column("capture_method", sa.String(16), nullable=False),
    sa.Column(
        "payment_token", sa.String(128), nullable=False, comment="the provider's token; never a card number"
    ),
    sa.Column("instrument", sa.String(64), nullable=False, comment="fingerprint for velocity"),
    sa.Column("payer_reference", sa.String(128)),
    sa.Column("return_url", sa.String(2048)),
    sa.Column("slippage_max_bps", sa.Integer(), nullable=False),
    sa.Column("slippage_policy", sa.String(16), nullable=False),
    sa.Column("extra", sa.JSON(), nullable=False, comment="the merchant's metadata"),
    sa.Column("quote_id", sa.String(64)),
    sa.Column("provider", sa.String(32)),
    sa.Column("provider_reference", sa.String(128)),
    sa.Column("next_action", sa.JSON()),
    sa.Column("decline", sa.JSON()),
    sa.Column("authorization_expires_at", MOMENT),
    sa.Column("settle_by", MOMENT),
    sa.Column("sequence", sa.Integer(), nullable=False, comment="number of the last event"),
    sa.Column("workflow_started_at", MOMENT),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("updated_at", MOMENT, nullable=False),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_payments_merchant_id"),
    sa.PrimaryKeyConstraint("id", name="pk_payments"),
)
sa.Index(
    "ix_payments_instrument",
    SCHEMA.tables["payments"].c["instrument"],
    SCHEMA.tables["payments"].c["created_at"],
)
sa.Index(
    "ix_payments_merchant_created",
    SCHEMA.tables["payments"].c["merchant_id"],
    SCHEMA.tables["payments"].c["created_at"],
    SCHEMA.tables["payments"].c["id"],
)
sa.Index(
    "ix_payments_merchant_status",
    SCHEMA.tables["payments"].c["merchant_id"],
    SCHEMA.tables["payments"].c["status"],
    SCHEMA.tables["payments"].c["created_at"],
    SCHEMA.tables["payments"].c["id"],
)
sa.Index(
    "ix_payments_payer",
    SCHEMA.tables["payments"].c["merchant_id"],
    SCHEMA.tables["payments"].c["payer_reference"],
    SCHEMA.tables["payments"].c["created_at"],
)
sa.Index("ix_payments_provider_reference", SCHEMA.tables["payments"].c["provider_reference"])
sa.Index(
    "ix_payments_unstarted",
    SCHEMA.tables["payments"].c["created_at"],
    sqlite_where=sa.text("workflow_started_at IS NULL"),
    postgresql_where=sa.text("workflow_started_at IS NULL"),
)
sa.Table(
    "quotes",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("body", sa.JSON(), nullable=False, comment="domain.Quote"),
    sa.Column("payment_id", sa.String(64), comment="the one payment that took it"),
    sa.Column("expires_at", MOMENT, nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_quotes_merchant_id"),
    sa.PrimaryKeyConstraint("id", name="pk_quotes"),
    sa.UniqueConstraint("payment_id", name="uq_quotes_payment_id"),
)
sa.Index("ix_quotes_merchant_id", SCHEMA.tables["quotes"].c["merchant_id"])
sa.Table(
    "webhook_endpoints",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("url", sa.String(2048), nullable=False),
    sa.Column("events", sa.JSON(), nullable=False, comment="event types; empty: all"),
    sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
    sa.Column("enabled", sa.Boolean(), nullable=False),
    sa.Column("disabled_reason", sa.String(100)),
    sa.Column("first_failure_at", MOMENT),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_webhook_endpoints_merchant_id"),
    sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
)
sa.Index("ix_webhook_endpoints_merchant_id", SCHEMA.tables["webhook_endpoints"].c["merchant_id"])
sa.Table(
    "effects",
    SCHEMA,
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("object_id", sa.String(64), nullable=False, comment="payment or refund"),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("operation", sa.String(16), nullable=False),
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("amount_minor", sa.BigInteger(), nullable=False),
    sa.Column("request", sa.JSON(), nullable=False, comment="FrozenRequest: the bytes of every send"),
    sa.Column("state", sa.String(24), nullable=False),
    sa.Column("provider_reference", sa.String(128)),
    sa.Column("answer", sa.JSON(), comment="the ProviderAnswer that decided it"),
    sa.Column("looks", sa.JSON(), nullable=False, comment="evidence of each look-up that did not decide"),
    sa.Column("declared_at", MOMENT, nullable=False),
    sa.Column("resolved_at", MOMENT),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_effects_payment_id"),
    sa.PrimaryKeyConstraint("key", name="pk_effects"),
)
sa.Index("ix_effects_open", SCHEMA.tables["effects"].c["state"], SCHEMA.tables["effects"].c["declared_at"])
sa.Index("ix_effects_payment_id", SCHEMA.tables["effects"].c["payment_id"])
sa.Table(
    "refunds",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(24), nullable=False),
    sa.Column("status_reason", sa.String(48)),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("amount_minor", sa.BigInteger(), nullable=False),
    sa.Column(
        "reserved_from", sa.String(160), comment="account the money was reserved from; null until it is"
    ),
    sa.Column("reserved_currency", sa.String(3)),
    sa.Column("reserved_minor", sa.BigInteger()),
    sa.Column("reason", sa.String(64)),
    sa.Column("extra", sa.JSON(), nullable=False),
    sa.Column("provider_reference", sa.String(128)),
    sa.Column("sequence", sa.Integer(), nullable=False),
    sa.Column("workflow_started_at", MOMENT),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("updated_at", MOMENT, nullable=False),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_refunds_merchant_id"),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_refunds_payment_id"),
    sa.PrimaryKeyConstraint("id", name="pk_refunds"),
)
sa.Index(
    "ix_refunds_merchant_created",
    SCHEMA.tables["refunds"].c["merchant_id"],
    SCHEMA.tables["refunds"].c["created_at"],
    SCHEMA.tables["refunds"].c["id"],
)
sa.Index("ix_refunds_payment_id", SCHEMA.tables["refunds"].c["payment_id"])
sa.Index(
    "ix_refunds_unstarted",
    SCHEMA.tables["refunds"].c["created_at"],
    sqlite_where=sa.text("workflow_started_at IS NULL"),
    postgresql_where=sa.text("workflow_started_at IS NULL"),
)
sa.Table(
    "reviews",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("object_id", sa.String(64), nullable=False, comment="payment or refund"),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(48), nullable=False),
    sa.Column("evidence", sa.JSON(), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, comment="open | decided"),
    sa.Column("decision", sa.String(32)),
    sa.Column("decided_by", sa.String(64)),
    sa.Column("note", sa.String(500)),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("decided_at", MOMENT),
    sa.ForeignKeyConstraint(["merchant_id"], ["merchants.id"], name="fk_reviews_merchant_id"),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_reviews_payment_id"),
    sa.PrimaryKeyConstraint("id", name="pk_reviews"),
)
sa.Index("ix_reviews_open", SCHEMA.tables["reviews"].c["status"], SCHEMA.tables["reviews"].c["created_at"])
sa.Index("ix_reviews_payment_id", SCHEMA.tables["reviews"].c["payment_id"])
sa.Table(
    "risk_decisions",
    SCHEMA,
    sa.Column("id", sa.Integer(), nullable=False),
    sa.Column("payment_id", sa.String(64), nullable=False),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("policy_version", sa.String(64), nullable=False),
    sa.Column("reasons", sa.JSON(), nullable=False),
    sa.Column("inputs", sa.JSON(), nullable=False),
    sa.Column("decided_at", MOMENT, nullable=False),
    sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name="fk_risk_decisions_payment_id"),
    sa.PrimaryKeyConstraint("id", name="pk_risk_decisions"),
)
sa.Index("ix_risk_decisions_payment_id", SCHEMA.tables["risk_decisions"].c["payment_id"])
sa.Table(
    "webhook_deliveries",
    SCHEMA,
    sa.Column("id", sa.String(64), nullable=False),
    sa.Column("endpoint_id", sa.String(64), nullable=False),
    sa.Column("event_id", sa.String(64), nullable=False),
    sa.Column("merchant_id", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False, comment="pending | delivered | failed"),
    sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
    sa.Column("last_status_code", sa.Integer()),
    sa.Column("last_error", sa.String(200)),
    sa.Column("next_attempt_at", MOMENT),
    sa.Column("workflow_started_at", MOMENT),
    sa.Column("created_at", MOMENT, nullable=False),
    sa.Column("delivered_at", MOMENT),
    sa.ForeignKeyConstraint(
        ["endpoint_id"], ["webhook_endpoints.id"], name="fk_webhook_deliveries_endpoint_id"
    ),
    sa.ForeignKeyConstraint(["event_id"], ["events.id"], name="fk_webhook_deliveries_event_id"),
    sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    sa.UniqueConstraint("endpoint_id", "event_id", name="uq_webhook_deliveries_endpoint_id_event_id"),
)
sa.Index(
    "ix_webhook_deliveries_due",
    SCHEMA.tables["webhook_deliveries"].c["status"],
    SCHEMA.tables["webhook_deliveries"].c["next_attempt_at"],
)
sa.Index(
    "ix_webhook_deliveries_merchant",
    SCHEMA.tables["webhook_deliveries"].c["merchant_id"],
    SCHEMA.tables["webhook_deliveries"].c["created_at"],
)
sa.Index(
    "ix_webhook_deliveries_unstarted",
    SCHEMA.tables["webhook_deliveries"].c["created_at"],
    sqlite_where=sa.text("workflow_started_at IS NULL AND status = 'pending'"),
    postgresql_where=sa.text("workflow_started_at IS NULL AND status = 'pending'"),
)


def upgrade() -> None:
    connection = op.get_bind()
    SCHEMA.create_all(connection)
    for table in APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            if connection.dialect.name == "sqlite":
                _forbid_on_sqlite(table, verb)
            else:
                _forbid_on_postgresql(table, verb)


def _forbid_on_sqlite(table: str, verb: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def _forbid_on_postgresql(table: str, verb: str) -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    raise RuntimeError("the ledger's first schema is not removed; restore a backup instead")
