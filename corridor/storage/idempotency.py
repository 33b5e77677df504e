"""Idempotency keys: claimed by a UNIQUE insert in the transaction of the work, answered once, replayed for ever.

The answer of a payment is frozen by the very transaction that makes it true (see `freeze_answer`), so a crash
between the change and the HTTP response cannot lose or alter it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from corridor.domain.failure import Refusal, Refused, broken
from corridor.storage.tables import idempotency_keys

LEASE = timedelta(seconds=15)
"""How long a claim without an answer belongs to the request that made it; afterwards a retry resumes it.

A request that still runs has answered before (its deadline is 10 s); one whose process was killed keeps the shop
waiting no longer than this. A retry that comes too early only joins the same workflow, or the same update of it.
"""

_OVER = datetime(1970, 1, 1, tzinfo=UTC)
"""The end of a lease that was given back: past by everybody's clock, as the moment of the claim may not be."""


@cache
def _claim(dialect: str) -> Any:
    """Built once, as are the next two: every payment runs them."""
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    mine = (idempotency_keys.c.merchant_id, idempotency_keys.c.key)
    return insert(idempotency_keys).on_conflict_do_nothing(index_elements=mine)


_OF_RESOURCE = idempotency_keys.c.resource_id == bindparam("resource")
_FREEZE = update(idempotency_keys).where(_OF_RESOURCE, idempotency_keys.c.status_code.is_(None))
_ANSWER = select(idempotency_keys).where(_OF_RESOURCE, idempotency_keys.c.status_code.is_not(None))


@dataclass(frozen=True)
class Claim:
    """`resource_id` is the first claimant's when `resumed`; the work goes on with that, never starts anew."""

    resource_id: str
    resumed: bool


@dataclass(frozen=True)
class Replay:
    """The stored answer, byte for byte."""

    status_code: int
    location: str | None
    body: str


@dataclass(frozen=True)
class Unanswered:
    """The request that made `resource_id` has no answer yet; it runs until `lease_until`, unless its process died."""

    resource_id: str
    lease_until: datetime


def claim(
    connection: Connection, merchant_id: str, key: str, fingerprint: str, resource_id: str, now: datetime
) -> Claim | Replay:
    """Claim `key`, or find what it stands for.

    Raises `Refused(IDEMPOTENCY_KEY_REUSED)` for another request under the same key, and
    `Refused(IDEMPOTENCY_IN_FLIGHT)` while the first one runs.
    """
    row = {
        "merchant_id": merchant_id,
        "key": key,
        "fingerprint": fingerprint,
        "resource_id": resource_id,
        "lease_until": now + LEASE,
        "created_at": now,
    }
    if connection.execute(_claim(connection.dialect.name), row).rowcount == 1:
        return Claim(resource_id, resumed=False)
    return _existing(connection, merchant_id, key, fingerprint, now)


def known(
    connection: Connection, merchant_id: str, key: str, fingerprint: str, *, locked: bool = False
) -> Replay | Unanswered | None:
    """What the key stands for, or None. Raises `Refused(IDEMPOTENCY_KEY_REUSED)` where that is another request."""
    query = select(idempotency_keys).where(_is_key(merchant_id, key))
    row = connection.execute(query.with_for_update() if locked else query).one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise Refused(
            Refusal.IDEMPOTENCY_KEY_REUSED,
            f"this key already stands for another request, which made {row.resource_id}; nothing was changed",
            {"resource_id": row.resource_id},
        )
    if row.status_code is not None:
        return Replay(row.status_code, row.location, row.body)
    return Unanswered(row.resource_id, row.lease_until)


def _existing(
    connection: Connection, merchant_id: str, key: str, fingerprint: str, now: datetime
) -> Claim | Replay:
    found = known(connection, merchant_id, key, fingerprint, locked=True)
    if isinstance(found, Replay):
        return found
    found = found or broken("a key that cannot be claimed is there")
    if found.lease_until > now:
        raise Refused(
            Refusal.IDEMPOTENCY_IN_FLIGHT,
            "the first request with this key is still running; ask again in a second",
            {"resource_id": found.resource_id},
        )
    connection.execute(
        update(idempotency_keys).where(_is_key(merchant_id, key)).values(lease_until=now + LEASE)
    )
    return Claim(found.resource_id, resumed=True)


def _is_key(merchant_id: str, key: str) -> ColumnElement[bool]:
    return and_(idempotency_keys.c.merchant_id == merchant_id, idempotency_keys.c.key == key)


def freeze_answer(
    connection: Connection, resource_id: str, status_code: int, location: str | None, body: str
) -> None:
    """Store the answer of the request that made `resource_id`, unless one is stored; the first stays."""
    connection.execute(
        _FREEZE, {"resource": resource_id, "status_code": status_code, "location": location, "body": body}
    )


def answer_of(connection: Connection, resource_id: str) -> Replay | None:
    """The frozen answer of the request that made `resource_id`, if there is one yet."""
    row = connection.execute(_ANSWER, {"resource": resource_id}).one_or_none()
    return Replay(row.status_code, row.location, row.body) if row is not None else None


def release(connection: Connection, resource_id: str) -> None:
    """End the lease of a request that gave up waiting (202), so that a retry may resume it at once."""
    connection.execute(
        update(idempotency_keys)
        .where(idempotency_keys.c.resource_id == resource_id, idempotency_keys.c.status_code.is_(None))
        .values(lease_until=_OVER)
    )
