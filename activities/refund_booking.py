"""How a refund moves money: reserved, returned, released, or come back after it had succeeded."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money
from corridor.domain.payment import REFUNDABLE, RefundStatus, Status, StatusReason
from corridor.domain.posting import Posting
from corridor.domain.quote import Quote
from corridor.fx.store import get_quote
from corridor.ledger import chart, rules, store
from corridor.storage import merchants, payments, refunds
from corridor.storage.payments import PaymentRow
from corridor.storage.tables import refunds as refund_table


def reserve_key(refund_id: str) -> str:
    return f"{refund_id}:reserve"


def later_keys(refund_id: str) -> tuple[str, ...]:
    """Keys of the postings a refund may make after its reservation and beside its effect."""
    return (f"{refund_id}:release", f"{refund_id}:settle_late", f"{refund_id}:came_back")


def reserve(connection: Connection, payment: PaymentRow, refund: Any, now: datetime) -> Posting | None:
    """Set the money aside under the payment's row lock; the limit holds for any number of racing refunds.

    None: the refund is worth less than one minor unit of the settlement currency, so there is nothing to post.
    Raises `Refused`: STATE_CONFLICT, REFUND_EXCEEDS_CAPTURED, INSUFFICIENT_AVAILABLE; nothing is reserved then.
    """
    amount = Money(refund.amount_minor, refund.currency)
    if Status(payment.status) not in REFUNDABLE:
        raise Refused(Refusal.STATE_CONFLICT, f"a payment that is {payment.status} has nothing to refund")
    if not amount <= payments.refundable(payment):
        raise Refused(
            Refusal.REFUND_EXCEEDS_CAPTURED,
            f"{payments.refundable(payment)} of the captured money is left to refund; nothing was reserved",
        )
    path, reserved = _taken_from(connection, payment, amount)
    build = (
        rules.refund_reserve_after_settlement
        if path == "available"
        else rules.refund_reserve_before_settlement
    )
    posting = None
    if not reserved.is_zero:
        posting = build(reserve_key(refund.id), refund.id, refund.merchant_id, reserved)
        store.post(connection, posting, now)
    source = chart.available(refund.merchant_id) if path == "available" else chart.pending(refund.merchant_id)
    refunds.reserved(connection, refund.id, chart.on(source, reserved.currency), reserved, now)
    payments.move(
        connection,
        payment,
        "payment.refund_reserved",
        now,
        amount_refund_reserved_minor=payment.amount_refund_reserved_minor + amount.minor,
    )
    return posting


def _taken_from(connection: Connection, payment: PaymentRow, amount: Money) -> tuple[str, Money]:
    """Where the refund's money lies: pending in the buyer's currency, or available at the original rate."""
    if payment.status != Status.SETTLED:
        return "pending", amount
    charged = Money(payment.settled_charged_minor, payment.currency)
    converted = Money(payment.settled_converted_minor, payment.settle_currency)
    refunded, given_back = _earlier_after_settlement(connection, payment)
    return "available", rules.refund_share(charged, converted, refunded, given_back, amount)


def _earlier_after_settlement(connection: Connection, payment: PaymentRow) -> tuple[Money, Money]:
    """What refunds reserved from available money took so far, in both currencies; failed ones do not count."""
    row = connection.execute(
        select(
            func.coalesce(func.sum(refund_table.c.amount_minor), 0).label("amount"),
            func.coalesce(func.sum(refund_table.c.reserved_minor), 0).label("given"),
        ).where(
            refund_table.c.payment_id == payment.id,
            refund_table.c.reserved_from.like("merchant/%/available/%"),
            refund_table.c.status != RefundStatus.FAILED,
        )
    ).one()
    return Money(int(row.amount), payment.currency), Money(int(row.given), payment.settle_currency)


def succeed(
    connection: Connection,
    payment: PaymentRow,
    refund: Any,
    effect: Any,
    reference: str | None,
    now: datetime,
) -> None:
    """The provider returned the money to the buyer."""
    amount, reserved = _amounts(refund)
    if _was_reserved_after_settlement(refund):
        posting = rules.refund_done_after_settlement(
            effect.key, refund.id, refund.merchant_id, effect.provider, reserved, amount
        )
    else:
        posting = rules.refund_done_before_settlement(
            effect.key, refund.id, refund.merchant_id, effect.provider, amount
        )
    store.post(connection, posting, now)
    refunds.move(
        connection, refund, "refund.succeeded", now, to=RefundStatus.SUCCEEDED, provider_reference=reference
    )
    payments.move(
        connection,
        payment,
        "payment.refunded",
        now,
        amount_refund_reserved_minor=payment.amount_refund_reserved_minor - amount.minor,
        amount_refunded_minor=payment.amount_refunded_minor + amount.minor,
    )


def release(
    connection: Connection, payment: PaymentRow, refund: Any, reason: StatusReason, now: datetime
) -> None:
    """The refund did not happen: reserved money goes back where it came from, and the refund failed."""
    _, reserved = _amounts(refund)
    if not reserved.is_zero:
        posting = rules.refund_release(
            f"{refund.id}:release", refund.id, refund.merchant_id, reserved, refund.reserved_from
        )
        store.post(connection, posting, now)
    late = _settle_late(connection, payment, refund, now)
    refunds.move(connection, refund, "refund.failed", now, to=RefundStatus.FAILED, reason=reason)
    payments.move(
        connection,
        payment,
        "payment.refund_released",
        now,
        amount_refund_reserved_minor=payment.amount_refund_reserved_minor - refund.amount_minor,
        **late,
    )


def come_back_once(
    connection: Connection, payment: PaymentRow, refund_id: str, provider: str, now: datetime
) -> None:
    """A refund that had succeeded failed at the buyer's bank (docs.stripe.com/refunds#failed-refunds)."""
    refund = refunds.lock(connection, refund_id)
    if refund.status == RefundStatus.FAILED:
        return
    amount, reserved = _amounts(refund)
    key = f"{refund.id}:came_back"
    if _was_reserved_after_settlement(refund):
        posting = rules.refund_failed_after_settlement(
            key, refund.id, refund.merchant_id, provider, reserved, amount
        )
    else:
        posting = rules.refund_failed_before_settlement(key, refund.id, refund.merchant_id, provider, amount)
    store.post(connection, posting, now)
    late = _settle_late(connection, payment, refund, now)
    refunds.move(
        connection,
        refund,
        "refund.failed",
        now,
        to=RefundStatus.FAILED,
        reason=StatusReason.DECLINED_BY_PROVIDER,
    )
    payments.move(
        connection,
        payment,
        "payment.refund_released",
        now,
        amount_refunded_minor=payment.amount_refunded_minor - amount.minor,
        **late,
    )


def _settle_late(connection: Connection, payment: PaymentRow, refund: Any, now: datetime) -> dict[str, Any]:
    """Reserved before the payment settled and given back after: it is converted and made available now.

    Returns what the payment has settled with it, for its row: later refunds take their share of these amounts.
    """
    if payment.status != Status.SETTLED or _was_reserved_after_settlement(refund):
        return {}
    quote, fee_bps = terms(connection, payment, now)
    amount, _ = _amounts(refund)
    posting = rules.settle_late(
        f"{refund.id}:settle_late", refund.id, refund.merchant_id, amount, quote, fee_bps
    )
    store.post(connection, posting, now)
    share = rules.merchant_share(amount, quote, fee_bps)
    return {
        "settled_minor": payment.settled_minor + share.net.minor,
        "settled_charged_minor": payment.settled_charged_minor + amount.minor,
        "settled_converted_minor": payment.settled_converted_minor + share.converted.minor,
    }


def _amounts(refund: Any) -> tuple[Money, Money]:
    """(what the buyer gets, what was set aside for it)."""
    return Money(refund.amount_minor, refund.currency), Money(refund.reserved_minor, refund.reserved_currency)


def _was_reserved_after_settlement(refund: Any) -> bool:
    source = str(refund.reserved_from)
    return chart.kind_of(source) is chart.AccountKind.MERCHANT_AVAILABLE


def terms(connection: Connection, payment: PaymentRow, now: datetime) -> tuple[Quote | None, int]:
    """The locked quote (None: no conversion) and our fee in basis points, for booking a settlement."""
    fee_bps = merchants.get(connection, payment.merchant_id).fee_bps
    if payment.quote_id is None:
        return None, fee_bps
    return get_quote(connection, payment.merchant_id, payment.quote_id, now)[0], fee_bps
