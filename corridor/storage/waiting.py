"""What waits and since when: the figures operators are alerted by."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, func, select, text

from corridor.domain.effect import EffectState
from corridor.storage.inbox import InboxState
from corridor.storage.tables import (
    effects,
    payments,
    provider_events,
    reviews,
    settlement_batches,
    unpositioned_events,
    webhook_deliveries,
)
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
    late_provider_events: Queue
    """Those that should have been looked at, or looked at again, since when they were due."""
    overdue_deliveries: Queue
    unplaced_events: int
    unsettled: Queue
    """Captured payments whose settlement is overdue, since their `settle_by`."""
    unbalanced_batches: int


def look(connection: Connection, now: datetime) -> Waiting:
    """Count the queues."""
    unknown = (
        select(effects.c.provider, func.count(), func.min(effects.c.declared_at))
        .where(effects.c.state == EffectState.UNKNOWN)
        .group_by(effects.c.provider)
    )
    overdue = (webhook_deliveries.c.status == PENDING) & (webhook_deliveries.c.next_attempt_at <= now)
    # Written out, as the partial index has it: with a parameter in its place PostgreSQL may not see that they agree.
    unsettled = text("status = 'captured'") & (payments.c.settle_by <= now)
    return Waiting(
        unknown_outcomes={row[0]: Queue(row[1], row[2]) for row in connection.execute(unknown)},
        reviews=_queue(connection, _waiting(reviews.c.created_at, reviews.c.status == "open")),
        provider_events=_queue(
            connection, _waiting(provider_events.c.received_at, provider_events.c.state == InboxState.STORED)
        ),
        late_provider_events=_queue(
            connection,
            _waiting(
                provider_events.c.due_at,
                (provider_events.c.state == InboxState.STORED) & (provider_events.c.due_at <= now),
            ),
        ),
        overdue_deliveries=_queue(connection, _waiting(webhook_deliveries.c.next_attempt_at, overdue)),
        unplaced_events=connection.execute(
            select(func.count()).select_from(unpositioned_events)
        ).scalar_one(),
        unsettled=_queue(connection, _waiting(payments.c.settle_by, unsettled)),
        unbalanced_batches=connection.execute(
            select(func.count()).where(settlement_batches.c.state == "unbalanced")
        ).scalar_one(),
    )


def _waiting(
    since: ColumnElement[datetime | None], which: ColumnElement[bool]
) -> Select[int, datetime | None]:
    return select(func.count(), func.min(since)).where(which)


def _queue(connection: Connection, query: Select[int, datetime | None]) -> Queue:
    row = connection.execute(query).one()
    return Queue(row[0], row[1])
