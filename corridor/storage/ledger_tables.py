"""The ledger's tables. Append-only: triggers (see the first migration) refuse UPDATE and DELETE on all but balances."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
)

from corridor.storage.columns import metadata, minor, moment

_path = String(160).with_variant(String(160, collation="C"), "postgresql")
"""Account paths compare byte by byte on both databases: a prefix is a range, and locks have one order."""

accounts = Table(
    "accounts",
    metadata,
    Column("account", _path, primary_key=True),
    Column("currency", String(3), nullable=False),
)

account_balances = Table(
    "account_balances",
    metadata,
    Column("account", _path, ForeignKey("accounts.account"), primary_key=True),
    Column(
        "shard",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="0: the one row of an account that may not go into debit; others share shards 1 to n",
    ),
    minor("balance_minor", comment="debits minus credits; an account's balance is the sum of its shards"),
    CheckConstraint("shard <> 0 OR balance_minor <= 0", name="no_overdraft"),
)

postings = Table(
    "postings",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(160), nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("object_id", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the canonical posting"),
    moment("posted_at"),
)

entries = Table(
    "entries",
    metadata,
    Column(
        "posting_id",
        BigInteger().with_variant(Integer, "sqlite"),
        ForeignKey("postings.id"),
        primary_key=True,
    ),
    Column("leg", Integer, primary_key=True),
    Column("account", String(160), ForeignKey("accounts.account"), nullable=False),
    minor("amount_minor"),
    Index("ix_entries_account", "account", "posting_id"),
)

ledger_seals = Table(
    "ledger_seals",
    metadata,
    Column(
        "seal_number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),
    Column("posting_id", BigInteger().with_variant(Integer, "sqlite"), nullable=False, unique=True),
    Column(
        "hash", String(64), nullable=False, comment="SHA-256 over the previous hash and the posting's digest"
    ),
    moment("sealed_at"),
)
