"""Outages of providers as rows: written by those who call providers, read at the door before anything is accepted.

An outage holds until `until` and no longer, whoever wrote it: if those who watch are gone, nobody is kept out for ever.
A clock that is ahead may write an `until` of tomorrow; nobody means to look away for longer than `LONGEST`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import Connection, delete, func, insert, select, update

from corridor.storage.tables import provider_outages


class Cause(StrEnum):
    """Who noticed. Each ends its own: a provider that answers a ping may still fail every payment."""

    UNREACHABLE = "unreachable"
    FAILING = "failing"


def note(
    connection: Connection, provider: str, cause: Cause, detail: str, now: datetime, until: datetime
) -> None:
    """The provider is not usable, at least until `until`. Noted again, the outage goes on and keeps its beginning."""
    mine = (provider_outages.c.provider == provider) & (provider_outages.c.cause == cause)
    values = {"detail": detail[:200], "until": until}
    changed = connection.execute(update(provider_outages).where(mine).values(**values))
    if changed.rowcount == 0:
        connection.execute(
            insert(provider_outages).values(provider=provider, cause=cause, since=now, **values)
        )


def end(connection: Connection, provider: str, cause: Cause) -> bool:
    """The provider answers again. True when there was an outage to end."""
    mine = (provider_outages.c.provider == provider) & (provider_outages.c.cause == cause)
    return connection.execute(delete(provider_outages).where(mine)).rowcount > 0


LONGEST = timedelta(minutes=2)
"""Far more than an outage is ever noted for, and than clocks that are kept may differ."""


def standing(connection: Connection, now: datetime) -> Mapping[str, datetime]:
    """Providers not to be used now, each with the moment up to which that is known."""
    query = (
        select(provider_outages.c.provider, func.max(provider_outages.c.until).label("until"))
        .where(provider_outages.c.until > now, provider_outages.c.until <= now + LONGEST)
        .group_by(provider_outages.c.provider)
    )
    return {row.provider: row.until for row in connection.execute(query)}
