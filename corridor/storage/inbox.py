"""The inbox of provider webhooks: stored once, sealed, before we answer 2xx; routed later by the relay.

stored → routed (a workflow was told) | confirmed (we knew already) | unmatched (nobody's, after every try).
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from corridor.domain.outcome import Frozen
from corridor.storage.tables import provider_events

InboxRow = Row[Any]


class InboxState(StrEnum):
    STORED = "stored"
    ROUTED = "routed"
    CONFIRMED = "confirmed"
    UNMATCHED = "unmatched"


class NewProviderEvent(Frozen):
    """A verified webhook: what routes it, and its raw bytes, sealed for `place(id)`."""

    id: str
    provider: str
    provider_event_id: str
    type: str
    payment_id: str | None
    effect_key: str | None
    provider_reference: str | None
    body_sealed: bytes
    created_at: datetime


def place(event_id: str) -> str:
    """What the sealed body is bound to."""
    return f"provider_events/{event_id}"


def store(connection: Connection, new: NewProviderEvent, now: datetime) -> bool:
    """Keep the event, due at once. False: this provider's event is here already, nothing was changed."""
    values = new.model_dump(exclude={"body_sealed"})
    try:
        with connection.begin_nested():
            connection.execute(
                insert(provider_events).values(
                    **values, body=new.body_sealed, state=InboxState.STORED, received_at=now, due_at=now
                )
            )
    except IntegrityError:
        return False
    return True


def due(connection: Connection, now: datetime, limit: int) -> list[InboxRow]:
    """Stored events whose next try is due, oldest first; rows another relay holds are skipped on PostgreSQL."""
    query = (
        select(provider_events)
        .where(provider_events.c.state == InboxState.STORED, provider_events.c.due_at <= now)
        .order_by(provider_events.c.due_at, provider_events.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(connection.execute(query).all())


def mark(connection: Connection, event_id: str, state: InboxState) -> None:
    """The event needs no more tries."""
    connection.execute(
        update(provider_events)
        .where(provider_events.c.id == event_id)
        .values(state=state, tries=provider_events.c.tries + 1)
    )


def try_later(connection: Connection, event_id: str, due_at: datetime) -> None:
    """Nobody's yet (a webhook may overtake our own commit): look again at `due_at`."""
    connection.execute(
        update(provider_events)
        .where(provider_events.c.id == event_id)
        .values(due_at=due_at, tries=provider_events.c.tries + 1)
    )
