"""Payments as rows: accepted once, moved only along the state machine, each move with its event."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from corridor.domain.accepted import Asked, NewPayment
from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.payment import Status, StatusReason, advance
from corridor.storage import events, idempotency
from corridor.storage.pages import Page, newest_first
from corridor.storage.records import Json, former, money_view, time_view
from corridor.storage.tables import effects, payments

PaymentRow = Row[Any]
"""A row of `payments`; columns are attributes (`row.amount_minor`)."""

_BY_ID = select(payments).where(payments.c.id == bindparam("wanted"))
"""Built once: building a statement anew and finding it in SQLAlchemy's cache takes longer than running it."""
_BY_ID_LOCKED = _BY_ID.with_for_update()
_OF_EFFECT_LOCKED = (
    select(payments)
    .where(
        payments.c.id
        == select(effects.c.payment_id).where(effects.c.key == bindparam("effect_key")).scalar_subquery()
    )
    .with_for_update()
)
_INSERT = insert(payments).returning(payments)
_CHANGE = update(payments).where(payments.c.id == bindparam("wanted")).returning(payments)


def accept(connection: Connection, new: NewPayment, now: datetime) -> PaymentRow:
    """Insert the payment in `processing` with event 1 (`payment.accepted`)."""
    values = new.model_dump(exclude={"amount", "metadata", "asked"})
    values |= {
        "amount_minor": new.amount.minor,
        "currency": new.amount.currency,
        "corridor": new.corridor,
        "extra": new.metadata,
        **asked_columns(new.asked),
        "status": Status.PROCESSING,
        "sequence": 1,
        "created_at": now,
        "updated_at": now,
    }
    row = connection.execute(_INSERT, values).one()
    _append(connection, row, "payment.accepted", {}, now)
    return row


def asked_columns(asked: Asked | None) -> dict[str, str | None]:
    """The columns of `payments` and `refunds` that hold the request."""
    return {
        "idempotency_key": asked.idempotency_key if asked is not None else None,
        "request_fingerprint": asked.fingerprint if asked is not None else None,
    }


def load(connection: Connection, payment_id: str) -> PaymentRow:
    """The row, whoever owns it: for the payment's own workflow. Raises `Refused(NOT_FOUND)`."""
    return _one(find(connection, payment_id))


def find(connection: Connection, payment_id: str) -> PaymentRow | None:
    """The row, or None: for ids that came from outside."""
    return connection.execute(_BY_ID, {"wanted": payment_id}).one_or_none()


def lock(connection: Connection, payment_id: str) -> PaymentRow:
    """The row, locked until the transaction ends (SQLite has one writer anyway). Raises `Refused(NOT_FOUND)`."""
    return _one(connection.execute(_BY_ID_LOCKED, {"wanted": payment_id}).one_or_none())


def lock_of_effect(connection: Connection, effect_key: str) -> PaymentRow:
    """`lock`, of the payment the effect belongs to."""
    return _one(connection.execute(_OF_EFFECT_LOCKED, {"effect_key": effect_key}).one_or_none())


def owned(connection: Connection, merchant_id: str, payment_id: str) -> PaymentRow:
    """The merchant's own payment; another merchant's is `Refused(NOT_FOUND)`, its existence is not revealed."""
    query = select(payments).where(payments.c.id == payment_id, payments.c.merchant_id == merchant_id)
    return _one(connection.execute(query).one_or_none())


def _one(row: PaymentRow | None) -> PaymentRow:
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such payment")
    return row


def page(
    connection: Connection,
    merchant_id: str,
    limit: int,
    after: tuple[datetime, str] | None = None,
    statuses: Sequence[str] = (),
    merchant_reference: str | None = None,
) -> Page:
    """The merchant's payments, newest first."""
    wanted = [payments.c.merchant_id == merchant_id]
    if merchant_reference is not None:
        wanted.append(payments.c.merchant_reference == merchant_reference)
    return newest_first(connection, payments, wanted, limit, after, statuses)


def move(
    connection: Connection,
    row: PaymentRow,
    event_type: str,
    now: datetime,
    *,
    to: Status | None = None,
    reason: StatusReason | None = None,
    **changes: Any,
) -> PaymentRow:
    """Change the payment and append the event that tells of it, in one transaction; returns the new row.

    `to` goes through the transition table; without it the status stays. `row` must be the locked current row.
    """
    if to is not None:
        changes["status"] = advance(Status(row.status), to)
        changes["status_reason"] = reason
    changes |= {"wanted": row.id, "sequence": row.sequence + 1, "updated_at": now}
    moved = connection.execute(_CHANGE, changes).one()
    _append(connection, moved, event_type, former(snapshot(row), snapshot(moved)), now)
    if row.status == Status.PROCESSING and moved.status != Status.PROCESSING:
        _freeze_answer(connection, moved)
    return moved


def _append(connection: Connection, row: PaymentRow, event_type: str, previous: Json, now: datetime) -> None:
    events.append(
        connection,
        object_type="payment",
        object_id=row.id,
        merchant_id=row.merchant_id,
        sequence=row.sequence,
        event_type=event_type,
        data=snapshot(row),
        previous=previous,
        now=now,
    )


def _freeze_answer(connection: Connection, row: PaymentRow) -> None:
    """Make the payment as it stands now the answer of the request that created it, byte for byte.

    Called where the payment first leaves `processing`, in that transaction; later calls find it answered.
    """
    idempotency.freeze_answer(connection, row.id, 201, f"/v1/payments/{row.id}", render(snapshot(row)))


def render(view: Json) -> str:
    """The one JSON text of a view: compact, UTF-8, in the order the fields are written."""
    return json.dumps(view, ensure_ascii=False, separators=(",", ":"))


def captured(row: PaymentRow) -> Money:
    return Money(row.amount_captured_minor, row.currency)


def refundable(row: PaymentRow) -> Money:
    """Captured money no refund has taken or reserved yet."""
    taken = row.amount_refunded_minor + row.amount_refund_reserved_minor
    return Money(row.amount_captured_minor - taken, row.currency)


def snapshot(row: PaymentRow) -> Json:
    """The payment as merchants see it: the body of GET, of events and of the frozen answer alike."""
    return {
        "id": row.id,
        "object": "payment",
        "status": row.status,
        "status_reason": row.status_reason,
        "amount": money_view(Money(row.amount_minor, row.currency)),
        "amount_captured": money_view(captured(row)),
        "amount_refunded": money_view(Money(row.amount_refunded_minor, row.currency)),
        "refundable": money_view(refundable(row)),
        "settlement": _settlement(row),
        "corridor": row.corridor,
        "capture_method": row.capture_method,
        "provider": row.provider,
        "quote": row.quote_id,
        "next_action": row.next_action,
        "decline": row.decline,
        "deadlines": {
            "authorization_expires_at": time_view(row.authorization_expires_at),
            "settle_by": time_view(row.settle_by),
        },
        "last_sequence": row.sequence,
        "merchant_reference": row.merchant_reference,
        "metadata": row.extra,
        "created_at": time_view(row.created_at),
        "updated_at": time_view(row.updated_at),
    }


def _settlement(row: PaymentRow) -> Json:
    amount = None if row.settled_minor is None else money_view(Money(row.settled_minor, row.settle_currency))
    return {"currency": row.settle_currency, "amount": amount}
