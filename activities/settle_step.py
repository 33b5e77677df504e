"""The payment's own settlement step: book a row of the provider's report."""

from datetime import datetime

from sqlalchemy import Connection

from activities import refund_booking, standing
from activities.contracts import SETTLE, Settled, SettleIn
from activities.edge import Edge
from activities.errors import implements
from corridor.domain.payment import Status
from corridor.domain.settlement import SettlementLine
from corridor.fx.store import mark_used
from corridor.ledger import rules, store
from corridor.runtime.crash import crash_point
from corridor.storage import payments, settlement
from corridor.storage.payments import PaymentRow
from corridor.storage.settlement import LineRow


class SettleStep:
    """The payment's own settlement step, run by its workflow."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    @implements(SETTLE)
    async def settle(self, wanted: SettleIn) -> Settled:
        """Book a report row: clearing is discharged, the rest converted at the lock, the merchant's money available."""
        crash_point("settlement.before_posting")
        settled = await self._edge.database.write(_settle, wanted, self._edge.now())
        crash_point("settlement.posted")
        return settled


def _settle(connection: Connection, wanted: SettleIn, now: datetime) -> Settled:
    payment = payments.lock(connection, wanted.payment_id)
    row = settlement.line(connection, wanted.provider, wanted.line_id)
    key = f"{payment.id}:settle:{wanted.line_id}"
    is_new = payment.status == Status.CAPTURED
    if is_new:
        line = SettlementLine.model_validate(row.body)
        payment = _book(connection, payment, wanted.provider, line, key, now)
    written = store.written(connection, [key])
    if written:
        settlement.mark(connection, wanted.provider, wanted.line_id, "posted")
    elif Status(payment.status).is_terminal:
        written = _book_unattributed(connection, wanted, row, now)
    return Settled(
        status=Status(payment.status),
        sequence=payment.sequence,
        postings=tuple(it.posting for it in written),
        line_id=wanted.line_id,
        posted_at=tuple(it.posted_at for it in written),
        stands=standing.of_payment(connection, payment.id, again=not is_new),
    )


def _book_unattributed(
    connection: Connection, wanted: SettleIn, row: LineRow, now: datetime
) -> list[store.Written]:
    """The payment ended otherwise, or by another row, while this one was on its way: a person explains the money."""
    posting = rules.adjustment(
        f"{wanted.provider}:{wanted.line_id}", wanted.line_id, SettlementLine.model_validate(row.body)
    )
    store.post(connection, posting, now)
    settlement.mark(connection, wanted.provider, wanted.line_id, "unmatched")
    return store.written(connection, [posting.key])


def _book(
    connection: Connection, payment: PaymentRow, provider: str, line: SettlementLine, key: str, now: datetime
) -> PaymentRow:
    remaining = payments.refundable(payment)
    quote, fee_bps = refund_booking.terms(connection, payment, now)
    posting = rules.settle(key, payment.id, payment.merchant_id, provider, line, remaining, quote, fee_bps)
    share = rules.merchant_share(remaining, quote, fee_bps)
    store.post(connection, posting, now)
    if quote is not None:
        mark_used(connection, quote.id, payment.id)
    return payments.move(
        connection,
        payment,
        "payment.settled",
        now,
        to=Status.SETTLED,
        settled_minor=share.net.minor,
        settled_charged_minor=remaining.minor,
        settled_converted_minor=share.converted.minor,
    )
