"""The dispatcher: from placed events to delivery rows, and from delivery rows to workflows.

Rows and the mark "dispatched" are one transaction. A workflow is started from its row and the row marked after the
server confirmed it, so a crash in between starts it again under the same id, which changes nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row
from temporalio.client import Client

from corridor.runtime import metrics
from corridor.runtime.crash import crash_point
from corridor.storage import events, webhook_deliveries
from corridor.storage.database import Database
from corridor.storage.relay_turns import Job, is_mine
from corridor.storage.webhook_deliveries import DeliveryRow
from workers.relay.starting import start_once
from workflows import names
from workflows.messages import DeliveryStart

EVENTS_BATCH = 200
STARTS_BATCH = 16
COUNTED = frozenset(
    {
        "authorized",
        "captured",
        "settled",
        "failed",
        "canceled",
        "expired",
        "requires_action",
        "requires_review",
    }
)


class Dispatcher:
    """Makes deliveries and starts their workflows."""

    def __init__(self, database: Database, client: Client, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._client = client
        self._clock = clock

    async def turn(self) -> int:
        """Returns how many events were dispatched or workflows started."""
        dispatched = 0
        if await self._database.read(events.undispatched, 1):
            events_sent = await self._database.write(dispatch, self._clock(), EVENTS_BATCH)
            crash_point("delivery.created")
            for event in events_sent:
                _count(event)
            dispatched = len(events_sent)
        return dispatched + await self._start()

    async def _start(self) -> int:
        rows = await self._database.read(webhook_deliveries.unstarted, STARTS_BATCH)
        if not rows:
            return 0
        outcomes = await asyncio.gather(*map(self._start_one, rows), return_exceptions=True)
        started = [row.id for row, failure in zip(rows, outcomes, strict=True) if failure is None]
        crash_point("delivery.started")
        if started:
            await self._database.write(webhook_deliveries.mark_started, started, self._clock())
        if failures := [failure for failure in outcomes if failure is not None]:
            raise BaseExceptionGroup("deliveries that could not be started", failures)
        return len(started)

    async def _start_one(self, row: DeliveryRow) -> None:
        await start_once(
            self._client,
            names.WEBHOOK_DELIVERY,
            DeliveryStart(delivery_id=row.id),
            workflow_id=names.delivery_workflow_id(row.id),
            summary=f"{row.type} · {row.object_id}",
        )


def _count(event: Row[Any]) -> None:
    """Payments by outcome, counted where every event passes exactly once."""
    subject, _, outcome = event.type.partition(".")
    if subject == "payment" and outcome in COUNTED:
        metrics.payment_reached(outcome, event.data["provider"] or "none", event.data["corridor"])


def dispatch(connection: Connection, now: datetime, limit: int) -> list[Row[Any]]:
    """Make the deliveries of up to `limit` events and mark these dispatched, unless another relay is at it."""
    if not is_mine(connection, Job.DISPATCH_EVENTS):
        return []
    waiting = events.undispatched(connection, limit)
    for event in waiting:
        webhook_deliveries.create_for_event(connection, event.id, event.merchant_id, event.type, now)
    if waiting:
        events.mark_dispatched(connection, [event.position for event in waiting], now)
    return waiting
