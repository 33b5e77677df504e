"""Where merchants want their events: endpoints with a sealed secret and a version that guards every change."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from corridor.domain.failure import Refusal, Refused
from corridor.storage.records import Json, time_view
from corridor.storage.tables import webhook_endpoints

EndpointRow = Row[Any]

REMOVED = "removed"
"""`disabled_reason` of an endpoint its merchant deleted: deliveries refer to it, so the row stays."""


MOST_ENDPOINTS = 16
"""Of one merchant. Each event is a delivery to each of them, and all merchants share what delivers."""


class VersionMoved(Exception):
    """The endpoint is not at the version the caller saw; nothing was changed."""


def place(endpoint_id: str) -> str:
    """What the sealed secret is bound to."""
    return f"webhook_endpoints/{endpoint_id}"


def create(
    connection: Connection,
    *,
    endpoint_id: str,
    merchant_id: str,
    url: str,
    event_types: list[str],
    secret_sealed: bytes,
    now: datetime,
) -> EndpointRow:
    """Raises `Refused(LIMIT_EXCEEDED)` for one more than `MOST_ENDPOINTS`."""
    present = select(func.count()).select_from(_present(merchant_id).subquery())
    if connection.execute(present).scalar_one() >= MOST_ENDPOINTS:
        raise Refused(
            Refusal.LIMIT_EXCEEDED,
            f"a merchant has at most {MOST_ENDPOINTS} webhook endpoints; nothing was created. Remove one, or have an "
            "existing one take more types of events",
            {"limit": MOST_ENDPOINTS},
        )
    connection.execute(
        insert(webhook_endpoints).values(
            id=endpoint_id,
            merchant_id=merchant_id,
            url=url,
            events=event_types,
            secret_sealed=secret_sealed,
            enabled=True,
            version=1,
            created_at=now,
        )
    )
    return owned(connection, merchant_id, endpoint_id)


def owned(connection: Connection, merchant_id: str, endpoint_id: str) -> EndpointRow:
    """The merchant's own endpoint. Raises `Refused(NOT_FOUND)`, for another merchant's and a removed one too."""
    query = _present(merchant_id).where(webhook_endpoints.c.id == endpoint_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such webhook endpoint")
    return row


def of_merchant(connection: Connection, merchant_id: str) -> list[EndpointRow]:
    """All of the merchant's endpoints, oldest first."""
    return list(connection.execute(_present(merchant_id).order_by(webhook_endpoints.c.id)).all())


def change(
    connection: Connection, merchant_id: str, endpoint_id: str, version: int, changes: dict[str, Any]
) -> EndpointRow:
    """Apply `changes` to the endpoint at `version`. Raises `Refused(NOT_FOUND)` or `VersionMoved`.

    Enabling it again forgets why it was disabled and since when it failed.
    """
    owned(connection, merchant_id, endpoint_id)
    if changes.get("enabled"):
        changes = {**changes, "disabled_reason": None, "first_failure_at": None}
    changed = connection.execute(
        update(webhook_endpoints)
        .where(webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.version == version)
        .values(**changes, version=version + 1)
    )
    if changed.rowcount == 0:
        raise VersionMoved
    return connection.execute(select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint_id)).one()


def remove(connection: Connection, merchant_id: str, endpoint_id: str, version: int) -> None:
    """Nothing more is sent there. Raises `Refused(NOT_FOUND)` or `VersionMoved`."""
    change(connection, merchant_id, endpoint_id, version, {"enabled": False, "disabled_reason": REMOVED})


def view(row: EndpointRow) -> Json:
    """The endpoint without its secret, which is shown once, when it is created."""
    return {
        "id": row.id,
        "object": "webhook_endpoint",
        "url": row.url,
        "events": row.events,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "version": row.version,
        "created_at": time_view(row.created_at),
    }


def _present(merchant_id: str) -> Any:
    return select(webhook_endpoints).where(
        webhook_endpoints.c.merchant_id == merchant_id,
        webhook_endpoints.c.disabled_reason.is_distinct_from(REMOVED),
    )
