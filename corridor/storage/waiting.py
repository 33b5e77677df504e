"""What waits and since when: the figures operators are alerted by."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, func, select

from corridor.domain.effect import EffectState
from corridor.storage.inbox import InboxState
from corridor.storage.tables import effects, provider_events, reviews, unpositioned_events, webhook_deliveries
from corridor.storage.webhook_deliveries import PENDING


@dataclass(frozen=True)
class Queue:
    """How many wait, and the moment since when the first of them does (None: nothing waits)."""

    count: int
    oldest: datetime | None

    def oldest_seconds(self, now: datetime) -> float:
        """Age of the oldest; 0 when nothing waits."""
        return max(0.0, (now - self.oldest).total_seconds()) if self.oldest is not None else 0.0


@dataclass(frozen=True)
class Waiting:
    """One consistent look at every queue. `unknown_outcomes` is by provider."""

    unknown_outcomes: dict[str, Queue]
    reviews: Queue
    provider_events: Queue
    overdue_deliveries: Queue
    unplaced_events: int


def look(connection: Connection, now: datetime) -> Waiting:
    """Count the queues."""
    unknown = (
        select(effects.c.provider, func.count(), func.min(effects.c.declared_at))
        .where(effects.c.state == EffectState.UNKNOWN)
        .group_by(effects.c.provider)
    )
    overdue = (webhook_deliveries.c.status == PENDING) & (webhook_deliveries.c.next_attempt_at <= now)
    return Waiting(
        unknown_outcomes={row[0]: Queue(row[1], row[2]) for row in connection.execute(unknown)},
        reviews=_queue(connection, _waiting(reviews.c.created_at, reviews.c.status == "open")),
        provider_events=_queue(
            connection, _waiting(provider_events.c.received_at, provider_events.c.state == InboxState.STORED)
        ),
        overdue_deliveries=_queue(connection, _waiting(webhook_deliveries.c.next_attempt_at, overdue)),
        unplaced_events=connection.execute(
            select(func.count()).select_from(unpositioned_events)
        ).scalar_one(),
    )


def _waiting(
    since: ColumnElement[datetime | None], which: ColumnElement[bool]
) -> Select[int, datetime | None]:
    return select(func.count(), func.min(since)).where(which)


def _queue(connection: Connection, query: Select[int, datetime | None]) -> Queue:
    row = connection.execute(query).one()
    return Queue(row[0], row[1])
