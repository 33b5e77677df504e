"""Where a step left its objects, for the history: their rows as they stood at the end of the step's transaction.

With these and with what was accepted, the rows, their events and the frozen answers can be made again from histories
alone, and no rule of today is applied to what happened yesterday. A step that runs again after its commit finds the
same rows, so it tells the same.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from activities.contracts import Standing
from corridor.domain.posting import Posting
from corridor.storage import payments, refunds
from corridor.storage.ledger_tables import postings as posting_table
from corridor.storage.tables import events

PAYMENT_COLUMNS = (
    "status", "status_reason", "amount_captured_minor", "amount_refund_reserved_minor", "amount_refunded_minor",
    "settled_minor", "settled_charged_minor", "settled_converted_minor", "quote_id", "provider",
    "provider_reference", "next_action", "decline", "authorization_expires_at", "settle_by", "workflow_started_at",
)  # fmt: skip
REFUND_COLUMNS = (
    "status", "status_reason", "reserved_from", "reserved_currency", "reserved_minor", "provider_reference",
    "workflow_started_at", "updated_at",
)  # fmt: skip
"""Every column that changes after the row was accepted, but for `sequence`; a payment's `updated_at` is its event's."""


def of_payment(connection: Connection, payment_id: str) -> tuple[Standing, ...]:
    """The payment as it stands now."""
    return (_standing(connection, payments.load(connection, payment_id), PAYMENT_COLUMNS),)


def of_refund(connection: Connection, payment_id: str, refund_id: str) -> tuple[Standing, ...]:
    """The payment and its refund as they stand now."""
    refund = refunds.load(connection, refund_id)
    return (*of_payment(connection, payment_id), _standing(connection, refund, REFUND_COLUMNS))


def posted_at(connection: Connection, made: Sequence[Posting]) -> tuple[datetime, ...]:
    """When each of these postings was written, in their order."""
    table = posting_table
    keys = [posting.key for posting in made]
    if not keys:
        return ()
    rows = connection.execute(select(table.c.key, table.c.posted_at).where(table.c.key.in_(keys)))
    times = {row.key: row.posted_at for row in rows}
    return tuple(times[key] for key in keys)


def _standing(connection: Connection, row: Row[Any], columns: Iterable[str]) -> Standing:
    told = connection.execute(
        select(events.c.type, events.c.created_at).where(
            events.c.object_id == row.id, events.c.sequence == row.sequence
        )
    ).one()
    held = {name: getattr(row, name) for name in columns}
    return Standing(
        object_id=row.id,
        sequence=row.sequence,
        event=told.type,
        at=told.created_at,
        # Null and zero are what a new row begins with, and every byte here is in every history.
        row={name: value for name, value in held.items() if value not in (None, 0)},
    )
