"""The tamper-evident seal: committed postings, hashed into one chain, off the path that payments wait on.

PostgreSQL hands out posting ids before commit, so a lower id may appear after a higher one was sealed. The chain is
therefore in order of *sealing* and gap-free in `seal_number`; what is unsealed is found by absence within
`LOOK_BACK` ids, so a straggler is sealed late and never lost. Waiting `SETTLING` before a row is sealed only keeps
both orders equal in ordinary operation; a row from the future, booked by a clock that is ahead, is not waited for: by
the time that comes it may lie behind the look-back. A row that missed even that is reported by the proof.

What a chain alone cannot show: a posting that was never written, or its end cut off together with the postings.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select

from corridor.ledger.store import ADVISORY_CLASS
from corridor.storage.ledger_tables import ledger_seals, postings

GENESIS = "0" * 64
"""What the first seal is chained to."""

SETTLING = timedelta(seconds=5)
LOOK_BACK = 4096


@dataclass(frozen=True)
class Sealed:
    """How many postings this run sealed, and the head of the chain after it (number 0: nothing sealed yet)."""

    count: int
    seal_number: int
    hash: str


def seal(connection: Connection, now: datetime, limit: int = 1000) -> Sealed:
    """Seal up to `limit` postings that had time to settle; call again while `count == limit`.

    Two sealers take turns on PostgreSQL by an advisory lock of their own, on SQLite by the writer's place.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_CLASS, 0)))
    number, previous = _head(connection)
    rows = _unsealed(connection, now, limit)
    seals = []
    for row in rows:
        number, previous = number + 1, link(previous, number + 1, row.id, row.digest, row.posted_at)
        seals.append({"seal_number": number, "posting_id": row.id, "hash": previous, "sealed_at": now})
    if seals:
        connection.execute(insert(ledger_seals), seals)
    return Sealed(len(seals), number, previous)


def link(previous: str, seal_number: int, posting_id: int, digest: str, posted_at: datetime) -> str:
    """The next hash of the chain: SHA-256 over 0x00, the previous hash and the row in canonical form.

    The leading zero byte is RFC 6962's mark of a leaf, which no tree node built over the chain can share.
    """
    row = (
        f"{seal_number}|{posting_id}|{digest}|{posted_at.astimezone(UTC).isoformat(timespec='microseconds')}"
    )
    return hashlib.sha256(b"\x00" + bytes.fromhex(previous) + row.encode()).hexdigest()


def _head(connection: Connection) -> tuple[int, str]:
    newest = select(ledger_seals.c.seal_number, ledger_seals.c.hash).order_by(
        ledger_seals.c.seal_number.desc()
    )
    row = connection.execute(newest.limit(1)).one_or_none()
    return (row.seal_number, row.hash) if row is not None else (0, GENESIS)


def _unsealed(connection: Connection, now: datetime, limit: int) -> Sequence[Any]:
    newest = connection.execute(select(func.max(ledger_seals.c.posting_id))).scalar_one() or 0
    return connection.execute(
        select(postings.c.id, postings.c.digest, postings.c.posted_at)
        .outerjoin(ledger_seals, ledger_seals.c.posting_id == postings.c.id)
        .where(
            postings.c.id > newest - LOOK_BACK,
            or_(postings.c.posted_at <= now - SETTLING, postings.c.posted_at > now + SETTLING),
            ledger_seals.c.posting_id.is_(None),
        )
        .order_by(postings.c.id)
        .limit(limit)
    ).all()
