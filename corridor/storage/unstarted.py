"""Accepted payments and refunds whose workflow has not reported itself: what a crash left between commit and start."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from corridor.storage.tables import payments, refunds


def unstarted_payments(connection: Connection, before: datetime, after_id: str, limit: int) -> Sequence[Any]:
    """Rows of payments accepted before `before`, by id from after `after_id` (ids sort by creation)."""
    return _unstarted(connection, payments, before, after_id, limit)


def unstarted_refunds(connection: Connection, before: datetime, after_id: str, limit: int) -> Sequence[Any]:
    """The same for refunds."""
    return _unstarted(connection, refunds, before, after_id, limit)


def _unstarted(
    connection: Connection, table: Table, before: datetime, after_id: str, limit: int
) -> Sequence[Any]:
    query = (
        select(table)
        .where(table.c.workflow_started_at.is_(None), table.c.created_at <= before, table.c.id > after_id)
        .order_by(table.c.id)
        .limit(limit)
    )
    return connection.execute(query).all()
