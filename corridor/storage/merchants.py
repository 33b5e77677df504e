"""Merchants and API keys as rows. A key's secret is stored as a peppered HMAC only; see `api.credentials`."""

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.outcome import Frozen
from corridor.storage.tables import api_keys, merchants

Role = Literal["merchant", "operator"]
KeyRow = Row[Any]
"""A row of `api_keys` with the merchant's `country` and `settle_currency` (None for an operator's key)."""

_BY_ID = select(merchants).where(merchants.c.id == bindparam("wanted"))
"""Built once: every payment asks what its merchant pays."""


class NewMerchant(Frozen):
    """`fee_bps` is what we charge of a settled payment, `fx_markup_bps` what we add to the provider's spread."""

    id: str
    name: str
    country: str
    settle_currency: str
    fee_bps: int = 120
    fx_markup_bps: int = 40
    statement_suffix: str | None = None


class NewKey(Frozen):
    """An API key as it is stored; `merchant_id` is None exactly for operators."""

    id: str
    merchant_id: str | None
    role: Role
    secret_hmac: bytes
    pepper_id: str


def create_merchant(connection: Connection, new: NewMerchant, now: datetime) -> None:
    """Insert the merchant, or leave the one that has this id as it is."""
    if connection.execute(select(merchants.c.id).where(merchants.c.id == new.id)).one_or_none() is None:
        connection.execute(insert(merchants).values(**new.model_dump(), created_at=now))


def create_key(connection: Connection, new: NewKey, now: datetime) -> None:
    invariant(
        (new.merchant_id is None) == (new.role == "operator"), "a key belongs to a merchant or an operator"
    )
    connection.execute(insert(api_keys).values(**new.model_dump(), created_at=now))


def seed(connection: Connection, new: NewMerchant, key: NewKey, now: datetime) -> None:
    """A merchant with its first key, in one transaction; for installations and demonstrations."""
    create_merchant(connection, new, now)
    create_key(connection, key, now)


def find_key(connection: Connection, key_id: str) -> KeyRow | None:
    """The key with what requests need of its merchant; revoked ones too (`revoked_at`)."""
    query = (
        select(api_keys, merchants.c.country, merchants.c.settle_currency)
        .outerjoin(merchants, merchants.c.id == api_keys.c.merchant_id)
        .where(api_keys.c.id == key_id)
    )
    return connection.execute(query).one_or_none()


def revoke_key(connection: Connection, key_id: str, now: datetime) -> None:
    """End the key; the first revocation's time stays."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def get(connection: Connection, merchant_id: str) -> Row[Any]:
    """Raises `Refused(NOT_FOUND)`."""
    row = connection.execute(_BY_ID, {"wanted": merchant_id}).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such merchant")
    return row
