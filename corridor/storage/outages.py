"""Outages of providers as rows: written by those who call providers, read at the door before anything is accepted.

An outage holds until `until` and no longer, whoever wrote it: if those who watch are gone, nobody is kept out for ever.
A clock that is ahead may write an `until` of tomorrow; nobody means to look away for longer than `LONGEST`.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from corridor.storage.tables import provider_outages
from corridor.storage.upsert import insert_unless_there


class Cause(StrEnum):
    """Who noticed. Each ends its own: a provider that answers a ping may still fail every payment."""

    UNREACHABLE = "unreachable"
    FAILING = "failing"


CONTRADICTED_FOR = timedelta(seconds=15)
"""One process without a way to the provider may close the door for a moment in each of these, and no longer."""


def note(
    connection: Connection, provider: str, cause: Cause, detail: str, now: datetime, until: datetime
) -> None:
    """The provider is not usable, at least until `until`. Noted again, the outage goes on and keeps its beginning.

    Nothing is noted while a contradiction is young.
    """
    values = {"detail": detail[:200], "until": until}
    # Several processes notice the same outage at the same moment.
    first = insert_unless_there(connection, provider_outages)
    if connection.execute(first.values(provider=provider, cause=cause, since=now, **values)).rowcount:
        return
    row = connection.execute(select(provider_outages).where(_is(provider, cause))).one_or_none()
    if row is None:
        return  # ended in between, by an answer
    if row.since != row.until:
        connection.execute(update(provider_outages).where(_is(provider, cause)).values(**values))
    elif row.since <= now - CONTRADICTED_FOR:
        connection.execute(update(provider_outages).where(_is(provider, cause)).values(since=now, **values))


def contradict(connection: Connection, provider: str, cause: Cause, now: datetime) -> bool:
    """Another process has just had an answer: whoever noted the outage is cut off, and not the provider.

    What stays is an outage of no length at `now`, by which `note` sees it. True when there was one that stood.
    """
    stands = _is(provider, cause) & (provider_outages.c.until > now)
    contradicted = update(provider_outages).where(stands).values(since=now, until=now)
    return connection.execute(contradicted).rowcount > 0


def _is(provider: str, cause: Cause) -> ColumnElement[bool]:
    return (provider_outages.c.provider == provider) & (provider_outages.c.cause == cause)


def end(connection: Connection, provider: str, cause: Cause) -> bool:
    """The provider answers again. True when there was an outage to end."""
    return connection.execute(delete(provider_outages).where(_is(provider, cause))).rowcount > 0


LONGEST = timedelta(minutes=2)
"""Far more than an outage is ever noted for, and than clocks that are kept may differ."""


def standing(connection: Connection, now: datetime, cause: Cause | None = None) -> Mapping[str, datetime]:
    """Providers not to be used now, for this cause or any, each with the moment up to which that is known."""
    query = (
        select(provider_outages.c.provider, func.max(provider_outages.c.until).label("until"))
        .where(provider_outages.c.until > now, provider_outages.c.until <= now + LONGEST)
        .group_by(provider_outages.c.provider)
    )
    if cause is not None:
        query = query.where(provider_outages.c.cause == cause)
    return {row.provider: row.until for row in connection.execute(query)}
