"""How payment and refund workflows are started, from their rows: one answer for the API and for the relay.

A workflow that the API could not start (a crash between commit and start) is started later by the relay; both must
send the same input, or the second start would mean something else than the first. Pure: rows in, values out.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from temporalio.common import SearchAttributePair, TypedSearchAttributes

from corridor.domain.accepted import Asked, NewPayment, NewRefund
from corridor.domain.money import Money
from corridor.domain.payment import CaptureMethod, Status
from workflows import names
from workflows.messages import PaymentStart, RefundStart

_DAY_SECONDS = 24 * 60 * 60

SUMMARY_BYTES = 200
"""Temporal refuses to start a workflow whose sealed summary exceeds 400 bytes; sealing adds about 130."""


class Row(Protocol):
    """A row of `payments` or `refunds`; columns are attributes. Workflow code must not know SQLAlchemy."""

    def __getattr__(self, name: str) -> Any: ...


@dataclass(frozen=True)
class Windows:
    """How long a payment waits, in seconds. Fixed in the history at the start, so a changed setting is no surprise."""

    settle_within_seconds: int = 14 * _DAY_SECONDS
    """Then the missing settlement is looked into; card schemes pay within days, bank holidays included."""
    action_window_seconds: int = 60 * 60
    """How long a buyer may take for a challenge."""


DEFAULT_WINDOWS = Windows()


def payment_start(row: Row, windows: Windows = DEFAULT_WINDOWS) -> PaymentStart:
    """The input of the payment's workflow."""
    return PaymentStart(
        payment_id=row.id,
        merchant_id=row.merchant_id,
        amount=Money(row.amount_minor, row.currency),
        settle_currency=row.settle_currency,
        corridor=row.corridor,
        settle_within_seconds=windows.settle_within_seconds,
        action_window_seconds=windows.action_window_seconds,
        accepted=accepted_payment(row),
        accepted_at=row.created_at,
    )


def accepted_payment(row: Row) -> NewPayment:
    """What the row was made of when it was accepted; later changes to the row are not in it."""
    return NewPayment(
        id=row.id,
        merchant_id=row.merchant_id,
        amount=Money(row.amount_minor, row.currency),
        settle_currency=row.settle_currency,
        source_country=row.source_country,
        destination_country=row.destination_country,
        payment_token=row.payment_token,
        instrument=row.instrument,
        capture_method=CaptureMethod(row.capture_method),
        payer_reference=row.payer_reference,
        merchant_reference=row.merchant_reference,
        return_url=row.return_url,
        quote_id=row.quote_id,
        slippage_max_bps=row.slippage_max_bps,
        slippage_policy=row.slippage_policy,
        metadata=row.extra,
        asked=_asked(row),
    )


def _asked(row: Row) -> Asked | None:
    if row.idempotency_key is None:
        return None
    return Asked(idempotency_key=row.idempotency_key, fingerprint=row.request_fingerprint)


def payment_search_attributes(row: Row) -> TypedSearchAttributes:
    """What operators filter by. Readable in Temporal in clear, so nothing personal; the provider is set later."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(names.STATUS, str(Status.PROCESSING)),
            SearchAttributePair(names.CORRIDOR, row.corridor),
            SearchAttributePair(names.MERCHANT, row.merchant_id),
            SearchAttributePair(names.AMOUNT, row.amount_minor),
            SearchAttributePair(names.NEEDS_REVIEW, False),
        ]
    )


def payment_summary(row: Row) -> str:
    """One line for the list of workflows: `100.00 EUR → CNY · DE→CN · order-7781`."""
    parts = [
        f"{Money(row.amount_minor, row.currency)} → {row.settle_currency}",
        f"{row.source_country}→{row.destination_country}",
        row.merchant_reference,
    ]
    return _within(SUMMARY_BYTES, " · ".join(part for part in parts if part))


def _within(size: int, text: str) -> str:
    """`text`, cut to `size` bytes of UTF-8 at a character's border; a long reference must not stop a payment."""
    return text.encode()[:size].decode(errors="ignore")


def payment_details(row: Row) -> str:
    """A few plain lines for the workflow's page; what changes later is in the current details."""
    lines = {
        "Payment": row.id,
        "Merchant": row.merchant_id,
        "Merchant's reference": row.merchant_reference,
        "Collected from": f"{row.source_country} in {row.currency}",
        "Settled to": f"{row.destination_country} in {row.settle_currency}",
        "Capture": row.capture_method,
        "Quote": row.quote_id,
    }
    return "\n".join(f"{label}: {value}" for label, value in lines.items() if value)


def refund_start(row: Row) -> RefundStart:
    """The input of the refund's workflow."""
    return RefundStart(
        refund_id=row.id,
        payment_id=row.payment_id,
        merchant_id=row.merchant_id,
        amount=Money(row.amount_minor, row.currency),
        accepted=accepted_refund(row),
        accepted_at=row.created_at,
    )


def accepted_refund(row: Row) -> NewRefund:
    """What the row was made of when it was accepted."""
    return NewRefund(
        id=row.id,
        payment_id=row.payment_id,
        merchant_id=row.merchant_id,
        amount=Money(row.amount_minor, row.currency),
        reason=row.reason,
        metadata=row.extra,
        asked=_asked(row),
    )


def refund_search_attributes(row: Row) -> TypedSearchAttributes:
    """What operators filter refunds by."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(names.MERCHANT, row.merchant_id),
            SearchAttributePair(names.AMOUNT, row.amount_minor),
            SearchAttributePair(names.NEEDS_REVIEW, False),
        ]
    )


def refund_summary(row: Row) -> str:
    """One line for the list of workflows: `refund of 12.00 EUR · pay_…`."""
    return f"refund of {Money(row.amount_minor, row.currency)} · {row.payment_id}"
