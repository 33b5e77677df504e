"""The watch: measures what waits and since when, so that an operator hears of it before a customer does."""

from collections.abc import Callable
from datetime import datetime

from corridor.runtime import metrics
from corridor.storage import waiting
from corridor.storage.database import Database


class Watch:
    """Sets the gauges. A provider once seen with unknown outcomes is reported as 0 when they are resolved."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._providers: set[str] = set()

    async def turn(self) -> int:
        """Always 0: watching is never busy."""
        now = self._clock()
        seen = await self._database.read(waiting.look, now)
        self._providers |= seen.unknown_outcomes.keys()
        for provider in self._providers:
            queue = seen.unknown_outcomes.get(provider, waiting.Queue(0, None))
            metrics.unknown_outcomes(queue.count, queue.oldest_seconds(now), provider)
        metrics.reviews_waiting(seen.reviews.count, seen.reviews.oldest_seconds(now))
        metrics.inbox_waiting(
            seen.provider_events.count,
            seen.provider_events.oldest_seconds(now),
            seen.late_provider_events.oldest_seconds(now),
        )
        metrics.webhooks_overdue(seen.overdue_deliveries.count, seen.overdue_deliveries.oldest_seconds(now))
        metrics.events_unplaced(seen.unplaced_events)
        metrics.settlements_overdue(seen.unsettled.count, seen.unsettled.oldest_seconds(now))
        metrics.batches_unbalanced(seen.unbalanced_batches)
        metrics.watched(now)
        return 0
