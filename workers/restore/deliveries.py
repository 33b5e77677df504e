"""Webhook deliveries whose end the database does not know: their workflows are over, so nobody else would tell it.

A delivery whose row was lost needs nothing: its event is made again under its old id and delivered again, and
receivers drop what they have by that id.
"""

from collections.abc import AsyncIterator

from sqlalchemy import Connection, select

from activities.contracts import ATTEMPT_WEBHOOK
from corridor.storage import webhook_deliveries
from corridor.storage.database import Database
from corridor.storage.tables import webhook_deliveries as table
from workers.histories.reading import Reading, StepTaken
from workers.restore.gaps import Gap, GapKind


async def catch_up(database: Database, runs: AsyncIterator[Reading | Gap], is_repair: bool) -> list[Gap]:
    """Record how finished deliveries ended that the database holds for pending."""
    gaps = []
    async for found in runs:
        if isinstance(found, Gap):
            gaps.append(found)
            continue
        attempts = found.of(ATTEMPT_WEBHOOK)
        if not attempts or attempts[-1].result.result not in ("delivered", "failed"):
            continue
        if await database.read(_is_pending, found.object_id):
            ended = attempts[-1]
            gaps.append(
                Gap(GapKind.DELIVERY, found.object_id, f"{ended.result.result}, attempt {ended.given.number}")
            )
            if is_repair:
                await database.write(_record, found.object_id, ended)
    return gaps


def _is_pending(connection: Connection, delivery_id: str) -> bool:
    status = connection.execute(select(table.c.status).where(table.c.id == delivery_id)).scalar_one_or_none()
    return bool(status == webhook_deliveries.PENDING)


def _record(connection: Connection, delivery_id: str, ended: StepTaken) -> None:
    number, code = ended.given.number, ended.result.status_code
    if ended.result.result == "delivered":
        webhook_deliveries.record_delivered(connection, delivery_id, number, code or 200, ended.at)
    else:
        webhook_deliveries.record_failure(
            connection, delivery_id, number, ended.at, status_code=code, error=None, next_attempt_at=None
        )
