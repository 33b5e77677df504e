"""Waits until nothing moves any more: everything settled, told to merchants, and imported."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from sqlalchemy import Connection, func, select

from corridor.domain.payment import RefundStatus, Status
from corridor.storage.database import Database
from corridor.storage.tables import (
    event_positions,
    payments,
    refunds,
    settlement_batches,
    settlement_lines,
    unpositioned_events,
    webhook_deliveries,
)

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 6.0
PATIENCE_SECONDS = 60.0

_OPEN_PAYMENTS = [status.value for status in Status if not status.is_terminal]
_OPEN_REFUNDS = [RefundStatus.PROCESSING.value, RefundStatus.REQUIRES_REVIEW.value]


@dataclass(frozen=True)
class Moving:
    """What is not at its end yet, counted."""

    payments: int
    refunds: int
    webhooks: int
    payouts: int
    settled: int

    @property
    def is_nothing(self) -> bool:
        return not (self.payments or self.refunds or self.webhooks or self.payouts)

    def __str__(self) -> str:
        return (
            f"{self.settled} settled; waiting for {self.payments} payments, {self.refunds} refunds,"
            f" {self.webhooks} webhooks, {self.payouts} payouts"
        )


async def until_quiet(
    database: Database, sandbox: httpx.AsyncClient, say: Callable[[Moving], None]
) -> Moving:
    """Return when nothing moves, or nothing has changed for `PATIENCE_SECONDS`: the proofs will name what is stuck.

    The provider is asked to pay out now and then, so that nobody waits for its calendar; the rest is our schedule's.
    """
    before, changed_at, paid_out_at = None, time.monotonic(), float("-inf")
    while True:
        now = time.monotonic()
        if now - paid_out_at >= SETTLE_SECONDS:
            (await sandbox.post("/control/settle")).raise_for_status()
            paid_out_at = now
        moving = await look(database, sandbox)
        say(moving)
        before, changed_at = moving, (changed_at if moving == before else now)
        if moving.is_nothing or now - changed_at > PATIENCE_SECONDS:
            return moving
        await asyncio.sleep(LOOK_SECONDS)


async def look(database: Database, sandbox: httpx.AsyncClient) -> Moving:
    """Count what is under way, on our side and between the provider and us."""
    answer = await sandbox.get("/control/books/summary")
    answer.raise_for_status()
    paid_out = sum(total["count"] for total in answer.json()["totals"].get("payout", {}).values())
    return await database.read(_count, paid_out)


def _count(connection: Connection, paid_out: int) -> Moving:
    def count(column: object, *where: object) -> int:
        query = select(func.count()).select_from(column).where(*where)  # type: ignore[arg-type]
        return int(connection.execute(query).scalar_one())

    imported = count(settlement_batches, settlement_batches.c.state == "imported")
    staged = count(settlement_lines, settlement_lines.c.state.in_(("staged", "signaled")))
    undelivered = count(webhook_deliveries, webhook_deliveries.c.status == "pending")
    unplaced = count(unpositioned_events) + count(event_positions, event_positions.c.dispatched_at.is_(None))
    return Moving(
        payments=count(payments, payments.c.status.in_(_OPEN_PAYMENTS)),
        refunds=count(refunds, refunds.c.status.in_(_OPEN_REFUNDS)),
        webhooks=undelivered + unplaced,
        payouts=max(0, paid_out - imported) + staged,
        settled=count(payments, payments.c.status == Status.SETTLED.value),
    )
