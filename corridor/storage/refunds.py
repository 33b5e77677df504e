"""Refunds as rows: accepted beside their payment, moved along their own table, each move with its event."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from corridor.domain.accepted import NewRefund
from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.money import Money
from corridor.domain.payment import (
    REFUND_TRANSITIONS,
    REFUNDABLE,
    RefundStatus,
    Status,
    StatusReason,
    require,
)
from corridor.storage import events, idempotency, payments
from corridor.storage.pages import Page, newest_first
from corridor.storage.records import Json, former, money_view, time_view
from corridor.storage.tables import refunds

RefundRow = Row[Any]
"""A row of `refunds`; columns are attributes."""


def check(payment: payments.PaymentRow, amount: Money) -> None:
    """The cheap look before accepting; the limit itself is enforced where the money is reserved.

    Raises `Refused`: OUTCOME_UNKNOWN, STATE_CONFLICT, INVALID_PARAMETER (other currency), REFUND_EXCEEDS_CAPTURED.
    """
    if payment.status == Status.REQUIRES_REVIEW and payment.status_reason == StatusReason.OUTCOME_UNKNOWN:
        raise Refused(
            Refusal.OUTCOME_UNKNOWN,
            "it is not known yet whether this payment moved money; it is refundable once that is resolved",
            {"current_status": payment.status},
        )
    require(Status(payment.status), REFUNDABLE, "a refund")
    if amount.currency != payment.currency:
        raise Refused(
            Refusal.INVALID_PARAMETER, f"the payment is in {payment.currency}", pointer="/amount/currency"
        )
    left = payments.refundable(payment)
    if left < amount or left.is_zero:
        raise Refused(
            Refusal.REFUND_EXCEEDS_CAPTURED,
            f"{left} of this payment is left to refund",
            {"refundable_minor": left.minor, "currency": left.currency},
            pointer="/amount/minor",
        )


def accept(connection: Connection, new: NewRefund, now: datetime) -> RefundRow:
    """Insert the refund in `processing` with event 1 (`refund.accepted`); the money is reserved by its workflow."""
    connection.execute(
        insert(refunds).values(
            id=new.id,
            payment_id=new.payment_id,
            merchant_id=new.merchant_id,
            status=RefundStatus.PROCESSING,
            currency=new.amount.currency,
            amount_minor=new.amount.minor,
            reason=new.reason,
            extra=new.metadata,
            **payments.asked_columns(new.asked),
            sequence=1,
            created_at=now,
            updated_at=now,
        )
    )
    row = load(connection, new.id)
    _append(connection, row, "refund.accepted", {}, now)
    return row


def find(connection: Connection, refund_id: str) -> RefundRow | None:
    """The row, if there is one here: providers may tell of refunds that another installation made."""
    return connection.execute(select(refunds).where(refunds.c.id == refund_id)).one_or_none()


def load(connection: Connection, refund_id: str) -> RefundRow:
    """The row, whoever owns it: for the refund's own workflow. Raises `Refused(NOT_FOUND)`."""
    return _one(connection.execute(select(refunds).where(refunds.c.id == refund_id)).one_or_none())


def lock(connection: Connection, refund_id: str) -> RefundRow:
    """The row, locked until the transaction ends. Raises `Refused(NOT_FOUND)`.

    Whoever needs the payment's row too locks that first.
    """
    query = select(refunds).where(refunds.c.id == refund_id).with_for_update()
    return _one(connection.execute(query).one_or_none())


def owned(connection: Connection, merchant_id: str, refund_id: str) -> RefundRow:
    """The merchant's own refund; another merchant's is `Refused(NOT_FOUND)`."""
    query = select(refunds).where(refunds.c.id == refund_id, refunds.c.merchant_id == merchant_id)
    return _one(connection.execute(query).one_or_none())


def page(
    connection: Connection,
    merchant_id: str,
    limit: int,
    after: tuple[datetime, str] | None = None,
    payment_id: str | None = None,
    statuses: Sequence[str] = (),
) -> Page:
    """The merchant's refunds, newest first."""
    wanted = [refunds.c.merchant_id == merchant_id]
    if payment_id is not None:
        wanted.append(refunds.c.payment_id == payment_id)
    return newest_first(connection, refunds, wanted, limit, after, statuses)


def move(
    connection: Connection,
    row: RefundRow,
    event_type: str,
    now: datetime,
    *,
    to: RefundStatus | None = None,
    reason: str | None = None,
    **changes: Any,
) -> RefundRow:
    """Change the refund and append the event that tells of it, in one transaction; returns the new row.

    Where it first leaves `processing` the answer of the request that made it is frozen. `row` must be locked.
    """
    moved = _change(connection, row, event_type, now, to, reason, changes)
    if row.status == RefundStatus.PROCESSING and moved.status != RefundStatus.PROCESSING:
        idempotency.freeze_answer(
            connection, row.id, 201, f"/v1/refunds/{row.id}", payments.render(snapshot(moved))
        )
    return moved


def refuse(connection: Connection, row: RefundRow, code: str, now: datetime) -> RefundRow:
    """Fail a refund the limit does not allow. Nothing was reserved, and the caller gets a problem, not a refund:
    its answer is left open for the API to freeze."""
    return _change(connection, row, "refund.failed", now, RefundStatus.FAILED, code, {})


def reserved(connection: Connection, refund_id: str, source: str, held: Money, now: datetime) -> None:
    """Note which account the money was set aside from, and how much of it in that account's currency."""
    connection.execute(
        update(refunds)
        .where(refunds.c.id == refund_id)
        .values(
            reserved_from=source, reserved_currency=held.currency, reserved_minor=held.minor, updated_at=now
        )
    )


def mark_started(connection: Connection, refund_id: str, now: datetime) -> None:
    """The workflow runs: from here the orphan starter leaves the refund alone."""
    connection.execute(
        update(refunds)
        .where(refunds.c.id == refund_id, refunds.c.workflow_started_at.is_(None))
        .values(workflow_started_at=now)
    )


def amount(row: RefundRow) -> Money:
    return Money(row.amount_minor, row.currency)


def snapshot(row: RefundRow) -> Json:
    """The refund as merchants see it: the body of GET, of events and of the frozen answer alike."""
    return {
        "id": row.id,
        "object": "refund",
        "payment": row.payment_id,
        "status": row.status,
        "status_reason": row.status_reason,
        "amount": money_view(amount(row)),
        "reason": row.reason,
        "last_sequence": row.sequence,
        "metadata": row.extra,
        "created_at": time_view(row.created_at),
        "updated_at": time_view(row.updated_at),
    }


def _one(row: RefundRow | None) -> RefundRow:
    if row is None:
        raise Refused(Refusal.NOT_FOUND, "no such refund")
    return row


def _change(
    connection: Connection,
    row: RefundRow,
    event_type: str,
    now: datetime,
    to: RefundStatus | None,
    reason: str | None,
    changes: dict[str, Any],
) -> RefundRow:
    if to is not None:
        allowed = REFUND_TRANSITIONS[RefundStatus(row.status)]
        invariant(to in allowed, f"a refund never goes from {row.status} to {to}")
        changes = {**changes, "status": to, "status_reason": reason}
    connection.execute(
        update(refunds)
        .where(refunds.c.id == row.id)
        .values(**changes, sequence=row.sequence + 1, updated_at=now)
    )
    moved = load(connection, row.id)
    _append(connection, moved, event_type, former(snapshot(row), snapshot(moved)), now)
    return moved


def _append(connection: Connection, row: RefundRow, event_type: str, previous: Json, now: datetime) -> None:
    events.append(
        connection,
        object_type="refund",
        object_id=row.id,
        merchant_id=row.merchant_id,
        sequence=row.sequence,
        event_type=event_type,
        data=snapshot(row),
        previous=previous,
        now=now,
    )
