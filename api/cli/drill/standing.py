"""How payments and refunds stood at the moments of a drill, read from whichever database file held them then."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from corridor.storage.database import Database
from corridor.storage.tables import events, payments, refunds


@dataclass(frozen=True)
class Stood:
    """One object: its status, its last event, and its merchant's name for it."""

    status: str
    sequence: int
    reference: str | None = None

    def __str__(self) -> str:
        return f"{self.status} #{self.sequence}"


@dataclass(frozen=True)
class Moment:
    """Everything at one moment; `told` are the ids of all events."""

    objects: Mapping[str, Stood]
    told: frozenset[str]


async def at(url: str) -> Moment:
    """Read a database."""
    database = Database(url)
    try:
        return await database.read(_read)
    finally:
        await database.close()


def _read(connection: Connection) -> Moment:
    found = {
        row.id: Stood(row.status, row.sequence, row.merchant_reference)
        for row in connection.execute(
            select(payments.c.id, payments.c.status, payments.c.sequence, payments.c.merchant_reference)
        )
    }
    found |= {
        row.id: Stood(row.status, row.sequence)
        for row in connection.execute(select(refunds.c.id, refunds.c.status, refunds.c.sequence))
    }
    return Moment(found, frozenset(connection.execute(select(events.c.id)).scalars()))
