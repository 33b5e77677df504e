"""Accepted payments and refunds whose workflow has not reported itself: what a crash left between commit and start."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, or_, select

from corridor.storage.tables import payments, refunds


def unstarted_payments(
    connection: Connection, now: datetime, patience: timedelta, after_id: str, limit: int
) -> Sequence[Any]:
    """Rows of payments accepted longer than `patience` ago, by id from after `after_id` (ids sort by creation)."""
    return _unstarted(connection, payments, now, patience, after_id, limit)


def unstarted_refunds(
    connection: Connection, now: datetime, patience: timedelta, after_id: str, limit: int
) -> Sequence[Any]:
    """The same for refunds."""
    return _unstarted(connection, refunds, now, patience, after_id, limit)


def _unstarted(
    connection: Connection, table: Table, now: datetime, patience: timedelta, after_id: str, limit: int
) -> Sequence[Any]:
    """A row from the future was written by a process whose clock is ahead; it must not wait until ours is there."""
    is_due = or_(table.c.created_at <= now - patience, table.c.created_at > now + patience)
    query = (
        select(table)
        .where(table.c.workflow_started_at.is_(None), is_due, table.c.id > after_id)
        .order_by(table.c.id)
        .limit(limit)
    )
    return connection.execute(query).all()
