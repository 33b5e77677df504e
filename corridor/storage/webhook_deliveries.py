"""Deliveries: one row for each event and each endpoint that wants it, and what became of every attempt.

Rows are made before the event counts as dispatched; the UNIQUE key on (endpoint, event) is the last word where two
relays meet. Ids are derived from that pair, so a transaction that runs again writes the same ids.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from corridor.domain.failure import Refusal, Refused
from corridor.domain.ids import Prefix, new_id
from corridor.storage import events, payments, webhook_endpoints
from corridor.storage.pages import Page, newest_first
from corridor.storage.records import Json, time_view
from corridor.storage.tables import events as event_table
from corridor.storage.tables import webhook_deliveries
from corridor.storage.tables import webhook_endpoints as endpoints
from corridor.storage.upsert import insert_unless_there

DeliveryRow = Any
"""A row with these columns as attributes."""

PENDING = "pending"
DELIVERED = "delivered"
FAILED = "failed"

_ENDPOINT_SUBJECT = "webhook_endpoint"


@dataclass(frozen=True)
class Outgoing:
    """One delivery, ready to be attempted. `body` is the same bytes at every attempt."""

    delivery_id: str
    event_id: str
    endpoint_id: str
    url: str
    secret_sealed: bytes
    body: bytes


def create_for_event(
    connection: Connection, event_id: str, merchant_id: str, event_type: str, now: datetime
) -> list[str]:
    """A pending delivery for each enabled endpoint of the merchant that asked for the type; existing ones stay."""
    subscribers = connection.execute(
        select(endpoints.c.id, endpoints.c.events)
        .where(endpoints.c.merchant_id == merchant_id, endpoints.c.enabled)
        .order_by(endpoints.c.id)
    ).all()
    rows = [
        {
            "id": _delivery_id(endpoint.id, event_id, now),
            "endpoint_id": endpoint.id,
            "event_id": event_id,
            "merchant_id": merchant_id,
            "status": PENDING,
            "next_attempt_at": now,
            "created_at": now,
        }
        for endpoint in subscribers
        if not endpoint.events or event_type in endpoint.events
    ]
    if rows:
        connection.execute(insert_unless_there(connection, webhook_deliveries), rows)
    return [str(row["id"]) for row in rows]


def _delivery_id(endpoint_id: str, event_id: str, now: datetime) -> str:
    return new_id(Prefix.DELIVERY, now, hashlib.sha256(f"{endpoint_id}:{event_id}".encode()).digest()[:10])


def unstarted(connection: Connection, limit: int) -> list[DeliveryRow]:
    """(id, type, object_id) of pending deliveries whose workflow is not known to have started, oldest first."""
    query = (
        select(webhook_deliveries.c.id, event_table.c.type, event_table.c.object_id)
        .join(event_table, event_table.c.id == webhook_deliveries.c.event_id)
        .where(webhook_deliveries.c.workflow_started_at.is_(None), webhook_deliveries.c.status == PENDING)
        .order_by(webhook_deliveries.c.created_at, webhook_deliveries.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).all())


def mark_started(connection: Connection, delivery_ids: Sequence[str], now: datetime) -> None:
    """Note that these workflows exist on the server; the first time is kept."""
    connection.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id.in_(delivery_ids), webhook_deliveries.c.workflow_started_at.is_(None))
        .values(workflow_started_at=now)
    )


def next_attempt(connection: Connection, delivery_id: str) -> Outgoing | None:
    """What to send, or None when there is nothing left to do: delivered, failed, or its endpoint was disabled.

    Raises `Refused(NOT_FOUND)` for an unknown id.
    """
    row = _with_endpoint(connection, delivery_id)
    if row.status != PENDING:
        return None
    if not row.enabled:
        _close(connection, delivery_id, FAILED, last_error="endpoint_disabled")
        return None
    event = events.by_id(connection, row.event_id)
    if event is None:
        raise Refused(Refusal.NOT_FOUND, "the delivery's event does not exist")
    return Outgoing(
        delivery_id,
        row.event_id,
        row.endpoint_id,
        row.url,
        row.secret_sealed,
        payments.render(event).encode(),
    )


def record_delivered(
    connection: Connection, delivery_id: str, number: int, status_code: int, now: datetime
) -> None:
    """The receiver took it at attempt `number`; its endpoint counts as healthy again."""
    row = _with_endpoint(connection, delivery_id)
    if row.status != PENDING:
        return
    _close(
        connection,
        delivery_id,
        DELIVERED,
        attempts=number,
        last_status_code=status_code,
        last_error=None,
        delivered_at=now,
    )
    connection.execute(
        update(endpoints)
        .where(endpoints.c.id == row.endpoint_id, endpoints.c.first_failure_at.is_not(None))
        .values(first_failure_at=None)
    )


def record_failure(
    connection: Connection,
    delivery_id: str,
    number: int,
    now: datetime,
    *,
    status_code: int | None,
    error: str | None,
    next_attempt_at: datetime | None,
) -> datetime | None:
    """Attempt `number` failed; without `next_attempt_at` it was the last. Returns since when the endpoint fails."""
    row = _with_endpoint(connection, delivery_id)
    if row.status != PENDING:
        return None
    connection.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == delivery_id)
        .values(
            attempts=number,
            last_status_code=status_code,
            last_error=error,
            next_attempt_at=next_attempt_at,
            status=PENDING if next_attempt_at is not None else FAILED,
        )
    )
    connection.execute(
        update(endpoints)
        .where(endpoints.c.id == row.endpoint_id, endpoints.c.first_failure_at.is_(None))
        .values(first_failure_at=now)
    )
    since: datetime = row.first_failure_at or now
    return since


def disable_endpoint(connection: Connection, delivery_id: str, reason: str, now: datetime) -> None:
    """Switch the delivery's endpoint off and tell the merchant's feed; an endpoint already off stays as it is."""
    endpoint_id = _with_endpoint(connection, delivery_id).endpoint_id
    changed = connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.enabled)
        .values(enabled=False, disabled_reason=reason, version=endpoints.c.version + 1)
    ).rowcount
    if changed:
        _tell_disabled(connection, endpoint_id, now)
    _close(connection, delivery_id, FAILED)


def page(
    connection: Connection,
    merchant_id: str,
    limit: int,
    after: tuple[datetime, str] | None = None,
    endpoint_id: str | None = None,
) -> Page:
    """The merchant's deliveries, or those to one of its endpoints, newest first."""
    wanted = [webhook_deliveries.c.merchant_id == merchant_id]
    if endpoint_id is not None:
        wanted.append(webhook_deliveries.c.endpoint_id == endpoint_id)
    return newest_first(connection, webhook_deliveries, wanted, limit, after)


def view(row: DeliveryRow) -> Json:
    """The delivery as its merchant sees it."""
    return {
        "id": row.id,
        "object": "webhook_delivery",
        "endpoint": row.endpoint_id,
        "event": row.event_id,
        "status": row.status,
        "attempts": row.attempts,
        "last_status_code": row.last_status_code,
        "last_error": row.last_error,
        "next_attempt_at": time_view(row.next_attempt_at),
        "created_at": time_view(row.created_at),
        "delivered_at": time_view(row.delivered_at),
    }


def _with_endpoint(connection: Connection, delivery_id: str) -> Any:
    """The delivery and its endpoint; both stay locked until the transaction ends, endpoint state included."""
    query = (
        select(
            webhook_deliveries.c.status,
            webhook_deliveries.c.event_id,
            webhook_deliveries.c.endpoint_id,
            endpoints.c.url,
            endpoints.c.secret_sealed,
            endpoints.c.enabled,
            endpoints.c.first_failure_at,
        )
        .join(endpoints, endpoints.c.id == webhook_deliveries.c.endpoint_id)
        .where(webhook_deliveries.c.id == delivery_id)
        .with_for_update()
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such delivery")
    return row


def _close(connection: Connection, delivery_id: str, status: str, **changes: Any) -> None:
    connection.execute(
        update(webhook_deliveries)
        .where(webhook_deliveries.c.id == delivery_id, webhook_deliveries.c.status == PENDING)
        .values(status=status, next_attempt_at=None, **changes)
    )


def _tell_disabled(connection: Connection, endpoint_id: str, now: datetime) -> None:
    """Append `webhook_endpoint.disabled`; the endpoint's row is locked, so the sequence has one writer."""
    row = connection.execute(select(endpoints).where(endpoints.c.id == endpoint_id)).one()
    last = connection.execute(
        select(func.coalesce(func.max(event_table.c.sequence), 0)).where(
            event_table.c.object_id == endpoint_id
        )
    ).scalar_one()
    events.append(
        connection,
        object_type=_ENDPOINT_SUBJECT,
        object_id=endpoint_id,
        merchant_id=row.merchant_id,
        sequence=last + 1,
        event_type="webhook_endpoint.disabled",
        data=webhook_endpoints.view(row),
        previous={"enabled": True},
        now=now,
    )
