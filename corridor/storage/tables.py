"""The tables of the platform database, but for the ledger's. Times are UTC; amounts are integers of minor units."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from corridor.storage.columns import identifier, metadata, minor, moment, reference

merchants = Table(
    "merchants",
    metadata,
    identifier(),
    Column("name", String(200), nullable=False),
    Column("country", String(2), nullable=False),
    Column("settle_currency", String(3), nullable=False),
    Column("fee_bps", Integer, nullable=False),
    Column("fx_markup_bps", Integer, nullable=False),
    Column("statement_suffix", String(22)),
    moment("created_at"),
)

api_keys = Table(
    "api_keys",
    metadata,
    identifier(),
    reference("merchant_id", "merchants.id", nullable=True, comment="null: an operator's key"),
    Column("role", String(16), nullable=False, comment="merchant | operator"),
    Column("secret_hmac", LargeBinary, nullable=False),
    Column("pepper_id", String(32), nullable=False),
    moment("created_at"),
    moment("revoked_at", nullable=True),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("merchant_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False, index=True),
    moment("lease_until"),
    Column("status_code", Integer, comment="null while in flight"),
    Column("location", String(255)),
    Column("body", Text, comment="the answer, byte for byte"),
    moment("created_at"),
)

payments = Table(
    "payments",
    metadata,
    identifier(),
    reference("merchant_id", "merchants.id"),
    Column("merchant_reference", String(128)),
    Column("status", String(24), nullable=False),
    Column("status_reason", String(48)),
    Column("currency", String(3), nullable=False),
    minor("amount_minor"),
    minor("amount_captured_minor", server_default=text("0")),
    minor(
        "amount_refund_reserved_minor", server_default=text("0"), comment="refunds accepted, not yet proven"
    ),
    minor("amount_refunded_minor", server_default=text("0")),
    Column("settle_currency", String(3), nullable=False),
    minor("settled_minor", nullable=True, comment="what the merchant got, in settle_currency"),
    minor("settled_charged_minor", nullable=True, comment="of the captured money, what was converted"),
    minor(
        "settled_converted_minor", nullable=True, comment="before fees, in settle_currency: basis of refunds"
    ),
    Column("source_country", String(2), nullable=False, comment="the buyer's"),
    Column("destination_country", String(2), nullable=False, comment="the merchant's"),
    Column("corridor", String(16), nullable=False, comment="DE-EUR>CN-CNY"),
    Column("capture_method", String(16), nullable=False),
    Column("payment_token", String(128), nullable=False, comment="the provider's token; never a card number"),
    Column("instrument", String(64), nullable=False, comment="fingerprint for velocity"),
    Column("payer_reference", String(128)),
    Column("return_url", String(2048)),
    Column("slippage_max_bps", Integer, nullable=False),
    Column("slippage_policy", String(16), nullable=False),
    Column("extra", JSON, nullable=False, comment="the merchant's metadata"),
    Column("idempotency_key", String(255), comment="of the request that made it; outlives the key's own row"),
    Column("request_fingerprint", String(64)),
    Column("quote_id", String(64)),
    Column("provider", String(32)),
    Column("provider_reference", String(128)),
    Column("next_action", JSON),
    Column("decline", JSON),
    moment("authorization_expires_at", nullable=True),
    moment("settle_by", nullable=True),
    Column("sequence", Integer, nullable=False, comment="number of the last event"),
    moment("workflow_started_at", nullable=True),
    moment("created_at"),
    moment("updated_at"),
    Index("ix_payments_merchant_created", "merchant_id", "created_at", "id"),
    Index("ix_payments_merchant_status", "merchant_id", "status", "created_at", "id"),
    Index("ix_payments_merchant_reference", "merchant_id", "merchant_reference", "created_at", "id"),
    Index("ix_payments_instrument", "instrument", "created_at"),
    Index("ix_payments_payer", "merchant_id", "payer_reference", "created_at"),
    Index("ix_payments_provider_reference", "provider_reference"),
    Index(
        "ix_payments_unstarted",
        "id",
        sqlite_where=text("workflow_started_at IS NULL"),
        postgresql_where=text("workflow_started_at IS NULL"),
    ),
)

effects = Table(
    "effects",
    metadata,
    Column("key", String(128), primary_key=True),
    Column("object_id", String(64), nullable=False, comment="payment or refund"),
    reference("payment_id", "payments.id", index=True),
    Column("operation", String(16), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("currency", String(3), nullable=False),
    minor("amount_minor"),
    Column("request", JSON, nullable=False, comment="FrozenRequest: the bytes of every send"),
    Column("state", String(24), nullable=False),
    Column("provider_reference", String(128)),
    Column("answer", JSON, comment="the ProviderAnswer that decided it"),
    Column("looks", JSON, nullable=False, comment="evidence of each look-up that did not decide"),
    moment("declared_at"),
    moment("resolved_at", nullable=True),
    Index("ix_effects_open", "state", "declared_at"),
)

refunds = Table(
    "refunds",
    metadata,
    identifier(),
    reference("payment_id", "payments.id"),
    reference("merchant_id", "merchants.id"),
    Column("status", String(24), nullable=False),
    Column("status_reason", String(48)),
    Column("currency", String(3), nullable=False),
    minor("amount_minor"),
    Column("reserved_from", String(160), comment="account the money was reserved from; null until it is"),
    Column("reserved_currency", String(3)),
    minor("reserved_minor", nullable=True),
    Column("reason", String(64)),
    Column("extra", JSON, nullable=False),
    Column("idempotency_key", String(255), comment="of the request that made it"),
    Column("request_fingerprint", String(64)),
    Column("provider_reference", String(128)),
    Column("sequence", Integer, nullable=False),
    moment("workflow_started_at", nullable=True),
    moment("created_at"),
    moment("updated_at"),
    Index("ix_refunds_payment", "payment_id", "merchant_id", "created_at", "id"),
    Index("ix_refunds_merchant_status", "merchant_id", "status", "created_at", "id"),
    Index("ix_refunds_merchant_created", "merchant_id", "created_at", "id"),
    Index(
        "ix_refunds_unstarted",
        "id",
        sqlite_where=text("workflow_started_at IS NULL"),
        postgresql_where=text("workflow_started_at IS NULL"),
    ),
)

events = Table(
    "events",
    metadata,
    identifier(),
    Column("merchant_id", String(64), nullable=False),
    Column("object_type", String(16), nullable=False),
    Column("object_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False, comment="per object, from 1, without gaps"),
    Column("type", String(48), nullable=False),
    Column("data", JSON, nullable=False, comment="snapshot of the object, frozen at the transition"),
    Column("previous", JSON, nullable=False),
    moment("created_at"),
    UniqueConstraint("object_id", "sequence"),
)

event_positions = Table(
    "event_positions",
    metadata,
    Column(
        "position",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=False,
        comment="order of the merchant-wide feed, given after commit by the one sequencer",
    ),
    reference("event_id", "events.id", unique=True),
    Column("merchant_id", String(64), nullable=False),
    moment("dispatched_at", nullable=True),
    Index("ix_event_positions_merchant", "merchant_id", "position"),
    Index(
        "ix_event_positions_undispatched",
        "position",
        sqlite_where=text("dispatched_at IS NULL"),
        postgresql_where=text("dispatched_at IS NULL"),
    ),
)

unpositioned_events = Table(
    "unpositioned_events",
    metadata,
    Column("event_id", String(64), primary_key=True),
    Column("merchant_id", String(64), nullable=False),
    comment="outbox of events the sequencer has not placed yet; written with the event",
)

quotes = Table(
    "quotes",
    metadata,
    identifier(),
    reference("merchant_id", "merchants.id", index=True),
    Column("status", String(16), nullable=False),
    Column("body", JSON, nullable=False, comment="domain.Quote"),
    Column("payment_id", String(64), unique=True, comment="the one payment that took it"),
    moment("expires_at"),
    moment("created_at"),
)

reviews = Table(
    "reviews",
    metadata,
    identifier(),
    reference("payment_id", "payments.id", index=True),
    Column("object_id", String(64), nullable=False, comment="payment or refund"),
    reference("merchant_id", "merchants.id"),
    Column("reason", String(48), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("status", String(16), nullable=False, comment="open | decided"),
    Column("decision", String(32)),
    Column("decided_by", String(64)),
    Column("note", String(500)),
    moment("created_at"),
    moment("decided_at", nullable=True),
    Index("ix_reviews_open", "status", "created_at"),
)

operator_acts = Table(
    "operator_acts",
    metadata,
    identifier(),
    moment("at"),
    Column("who", String(128), nullable=False, comment="an operator's name, user@host, or the id of a key"),
    Column("command", String(64), nullable=False),
    Column("words", JSON, nullable=False, comment="what it was given; never a secret"),
    Column("outcome", String(64), comment="null: begun, and nobody wrote how it ended"),
    Column("result", JSON, nullable=False, comment="what it made or moved; never a secret"),
    moment("finished_at", nullable=True),
)

risk_decisions = Table(
    "risk_decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    reference("payment_id", "payments.id", index=True),
    Column("decision", String(16), nullable=False),
    Column("policy_version", String(64), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    moment("decided_at"),
)


provider_outages = Table(
    "provider_outages",
    metadata,
    Column("provider", String(32), primary_key=True),
    Column("cause", String(16), primary_key=True, comment="unreachable | failing"),
    Column("detail", String(200), nullable=False),
    moment("since"),
    moment("until"),
)

provider_events = Table(
    "provider_events",
    metadata,
    identifier(),
    Column("provider", String(32), nullable=False),
    Column("provider_event_id", String(128), nullable=False),
    Column("type", String(96), nullable=False),
    Column("payment_id", String(64)),
    Column("effect_key", String(128)),
    Column("provider_reference", String(128)),
    Column("body", LargeBinary, nullable=False, comment="raw bytes, sealed"),
    Column(
        "is_setback",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="says that what had succeeded no longer holds",
    ),
    Column("state", String(16), nullable=False, comment="stored | routed | confirmed | unmatched"),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    moment("created_at"),
    moment("received_at"),
    moment("due_at"),
    UniqueConstraint("provider", "provider_event_id"),
    Index("ix_provider_events_due", "state", "due_at"),
)

settlement_batches = Table(
    "settlement_batches",
    metadata,
    Column("provider", String(32), primary_key=True),
    Column("batch_id", String(128), primary_key=True),
    Column("state", String(16), nullable=False, comment="importing | imported | unbalanced"),
    Column("currency", String(3), nullable=False),
    minor("total_minor"),
    minor("lines_minor", server_default=text("0")),
    Column("line_count", Integer, nullable=False, server_default=text("0")),
    Column("bad_row_count", Integer, nullable=False, server_default=text("0")),
    Column("cursor", String(128)),
    moment("arrives_at"),
    moment("created_at"),
    moment("imported_at", nullable=True),
)

settlement_lines = Table(
    "settlement_lines",
    metadata,
    Column("provider", String(32), primary_key=True),
    Column("line_id", String(128), primary_key=True),
    Column("batch_id", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("payment_id", String(64), index=True),
    Column("effect_key", String(128)),
    Column("body", JSON, nullable=False, comment="SettlementLine, or the raw text of a bad row"),
    Column("state", String(16), nullable=False, comment="staged | signaled | posted | unmatched | bad"),
    Column("reason", String(200)),
    moment("created_at"),
    Index("ix_settlement_lines_state", "state", "batch_id"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    identifier(),
    reference("merchant_id", "merchants.id", index=True),
    Column("url", String(2048), nullable=False),
    Column("events", JSON, nullable=False, comment="event types; empty: all"),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", String(100)),
    moment("first_failure_at", nullable=True),
    Column("version", Integer, nullable=False),
    moment("created_at"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    identifier(),
    reference("endpoint_id", "webhook_endpoints.id"),
    reference("event_id", "events.id"),
    Column("merchant_id", String(64), nullable=False),
    Column("status", String(16), nullable=False, comment="pending | delivered | failed"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_status_code", Integer),
    Column("last_error", String(200)),
    moment("next_attempt_at", nullable=True),
    moment("workflow_started_at", nullable=True),
    moment("created_at"),
    moment("delivered_at", nullable=True),
    UniqueConstraint("endpoint_id", "event_id"),
    Index("ix_webhook_deliveries_merchant", "merchant_id", "created_at"),
    Index(
        "ix_webhook_deliveries_unstarted",
        "created_at",
        sqlite_where=text("workflow_started_at IS NULL AND status = 'pending'"),
        postgresql_where=text("workflow_started_at IS NULL AND status = 'pending'"),
    ),
    Index("ix_webhook_deliveries_due", "status", "next_attempt_at"),
)

reference_rates = Table(
    "reference_rates",
    metadata,
    Column("source", String(16), primary_key=True),
    Column("as_of", String(10), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("rate", String(32), nullable=False, comment="units per 1 EUR, as published"),
)
reference_rate_sources = Table(
    "reference_rate_sources",
    metadata,
    Column("source", String(16), primary_key=True),
    moment("asked_at"),
    moment("read_at", nullable=True),
    Column("digest", String(64), comment="SHA-256 of the file that was read last"),
)
