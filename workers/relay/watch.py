"""The watch: measures what waits and since when, so that an operator hears of it before a customer does."""

from collections.abc import Callable
from datetime import datetime

from opentelemetry import metrics as telemetry

from corridor.runtime import metrics
from corridor.storage import waiting
from corridor.storage.database import Database

_meter = telemetry.get_meter("corridor")
_inbox = _meter.create_gauge("corridor.inbox.waiting", description="provider webhooks not placed yet")
_inbox_age = _meter.create_gauge("corridor.inbox.oldest", unit="s", description="age of the oldest of them")
_overdue = _meter.create_gauge("corridor.webhook.overdue", description="webhook attempts past their time")
_overdue_age = _meter.create_gauge(
    "corridor.webhook.overdue.oldest", unit="s", description="delay of the latest"
)
_unplaced = _meter.create_gauge("corridor.events.unplaced", description="events not in the feed yet")


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
        _inbox.set(seen.provider_events.count)
        _inbox_age.set(seen.provider_events.oldest_seconds(now))
        _overdue.set(seen.overdue_deliveries.count)
        _overdue_age.set(seen.overdue_deliveries.oldest_seconds(now))
        _unplaced.set(seen.unplaced_events)
        return 0
