"""The tables of reference rates: what was published since the packaged file, and who asked for it last."""

from sqlalchemy import Column, String, Table

from corridor.storage.columns import metadata, moment

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
