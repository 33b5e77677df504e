"""Reference rates published since the packaged ones: figures as their source wrote them, and who asks for the next."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, update

from corridor.storage.rate_tables import reference_rate_sources as sources
from corridor.storage.rate_tables import reference_rates as rates
from corridor.storage.upsert import insert_unless_there

Days = Mapping[str, Mapping[str, str]]
"""By ISO date, published units per 1 EUR by currency."""


def since(connection: Connection, source: str, first: str) -> dict[str, dict[str, str]]:
    """The days kept from `first` (an ISO date) on, oldest first."""
    wanted = (
        select(rates.c.as_of, rates.c.currency, rates.c.rate)
        .where(rates.c.source == source, rates.c.as_of >= first)
        .order_by(rates.c.as_of)
    )
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.as_of, {})[row.currency] = row.rate
    return found


def may_ask(connection: Connection, source: str, every: timedelta, now: datetime) -> bool:
    """True for one process in each `every`; it is then on record as the one that asks."""
    # One that asked "later than now" had a wrong clock, and must not keep the others from asking.
    is_due = or_(sources.c.asked_at <= now - every, sources.c.asked_at > now)
    taken = update(sources).where(sources.c.source == source, is_due).values(asked_at=now)
    if connection.execute(taken).rowcount:
        return True
    first = insert_unless_there(connection, sources).values(source=source, asked_at=now)
    return connection.execute(first).rowcount > 0


def keep(connection: Connection, source: str, published: Days, digest: str, now: datetime) -> list[str]:
    """Add the days that are not kept yet. One that is stays as it is, since quotes were made by it.

    Returns the days of which the file says otherwise now.
    """
    kept = since(connection, source, min(published)) if published else {}
    new = [
        {"source": source, "as_of": as_of, "currency": currency, "rate": rate}
        for as_of, figures in published.items()
        if as_of not in kept
        for currency, rate in figures.items()
    ]
    if new:
        connection.execute(insert(rates), new)
    connection.execute(update(sources).where(sources.c.source == source).values(read_at=now, digest=digest))
    return [as_of for as_of, figures in published.items() if as_of in kept and kept[as_of] != figures]
