"""Quotes in the database: kept when made, taken by exactly one payment, given back when no money moved.

A quote's row is locked before it is judged, and `quotes.payment_id` is unique, so of two payments that want one
quote one gets it, and of two quotes that want one payment one gets in. A quote is single use: once taken it never
opens again, not even when its payment fails.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from corridor.domain.failure import Refusal, Refused, invariant
from corridor.domain.quote import Quote, QuoteStatus
from corridor.fx.view import rfc3339
from corridor.storage.tables import payments, quotes

_TAKEN = (QuoteStatus.LOCKED, QuoteStatus.USED)

_INSERT = insert(quotes)
"""Built once: building a statement anew and finding it in SQLAlchemy's cache takes longer than running it."""
_BY_ID = select(quotes).where(quotes.c.id == bindparam("wanted"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_MARK_USED = (
    update(quotes)
    .where(quotes.c.id == bindparam("wanted"), quotes.c.payment_id == bindparam("holder"))
    .where(quotes.c.status.in_(_TAKEN))
    .values(status=QuoteStatus.USED)
)


def insert_quote(connection: Connection, quote: Quote, now: datetime) -> None:
    """Keep an open quote with all its evidence."""
    connection.execute(_INSERT, _row(quote, QuoteStatus.OPEN, None, now))


def insert_locked(connection: Connection, quote: Quote, payment: Row[Any], now: datetime) -> None:
    """Keep a quote that was made for this payment and is taken by it at once; nobody can come in between.

    Raises `Refused`: QUOTE_EXPIRED, QUOTE_MISMATCH. The payment must have given back any quote it held.
    """
    invariant(quote.merchant_id == payment.merchant_id, "a quote is taken by its own merchant's payment")
    _require_fit(quote, payment)
    _require_time(quote, now)
    connection.execute(_INSERT, _row(quote, QuoteStatus.LOCKED, payment.id, now))


def _row(quote: Quote, status: QuoteStatus, payment_id: str | None, now: datetime) -> dict[str, Any]:
    return {
        "id": quote.id,
        "merchant_id": quote.merchant_id,
        "status": status,
        "body": quote.model_dump(mode="json"),
        "payment_id": payment_id,
        "expires_at": quote.expires_at,
        "created_at": now,
    }


def get_quote(
    connection: Connection, merchant_id: str, quote_id: str, now: datetime
) -> tuple[Quote, QuoteStatus]:
    """A merchant's own quote and its status at `now`. Raises `Refused(NOT_FOUND)`, for foreign quotes too."""
    row = connection.execute(_BY_ID, {"wanted": quote_id}).one_or_none()
    if row is None or row.merchant_id != merchant_id:
        raise _not_found(quote_id)
    return _quote(row), _status_at(row, now)


def lock_quote(connection: Connection, quote_id: str, payment_id: str, now: datetime) -> Quote:
    """Take the quote for this payment; for the payment that has it already, the same answer again.

    Raises `Refused`: NOT_FOUND (also another merchant's), QUOTE_ALREADY_USED, QUOTE_EXPIRED, QUOTE_MISMATCH.
    """
    row = _locked_row(connection, quote_id)
    payment = connection.execute(select(payments).where(payments.c.id == payment_id)).one()
    if row is None or row.merchant_id != payment.merchant_id:
        raise _not_found(quote_id)
    quote = _quote(row)
    if row.payment_id == payment_id and row.status in _TAKEN:
        return quote
    if row.payment_id is not None or row.status in (*_TAKEN, QuoteStatus.CANCELED):
        raise Refused(
            Refusal.QUOTE_ALREADY_USED, "a quote is used once; ask for a new one", {"quote": quote_id}
        )
    _require_fit(quote, payment)
    _require_time(quote, now, row.status == QuoteStatus.EXPIRED)
    taken = connection.execute(
        update(quotes)
        .where(quotes.c.id == quote_id, quotes.c.status == QuoteStatus.OPEN, quotes.c.payment_id.is_(None))
        .values(status=QuoteStatus.LOCKED, payment_id=payment_id)
    )
    invariant(taken.rowcount == 1, f"the locked row of {quote_id} did not change under us")
    return quote


def mark_used(connection: Connection, quote_id: str, payment_id: str) -> None:
    """The conversion at this rate is booked. Marking twice is one mark."""
    marked = connection.execute(_MARK_USED, {"wanted": quote_id, "holder": payment_id})
    invariant(marked.rowcount == 1, f"{payment_id} converts at a quote it holds")


def release_quote(connection: Connection, quote_id: str, payment_id: str, now: datetime) -> bool:
    """Give a lock back because no money moved at it: the payment failed, was canceled, or takes a new quote.

    The quote ends as expired or canceled and the payment may lock another. False: it held no lock (released
    before), so undoing twice is safe. A used quote is never released (`InvariantBroken`).
    """
    row = _locked_row(connection, quote_id)
    if row is None or row.payment_id != payment_id:
        return False
    invariant(row.status != QuoteStatus.USED, f"{quote_id} is booked; a conversion is reversed, not released")
    ended = QuoteStatus.EXPIRED if row.expires_at <= now else QuoteStatus.CANCELED
    connection.execute(update(quotes).where(quotes.c.id == quote_id).values(status=ended, payment_id=None))
    return True


def expire_due(connection: Connection, now: datetime) -> int:
    """Mark open quotes whose time is over. Locked ones are left: their payment re-quotes or releases them."""
    ended = connection.execute(
        update(quotes)
        .where(quotes.c.status == QuoteStatus.OPEN, quotes.c.expires_at <= now)
        .values(status=QuoteStatus.EXPIRED)
    )
    return ended.rowcount


def _locked_row(connection: Connection, quote_id: str) -> Row[Any] | None:
    """FOR UPDATE on PostgreSQL; on SQLite the write transaction already excludes every other writer."""
    return connection.execute(_BY_ID_LOCKED, {"wanted": quote_id}).one_or_none()


def _require_fit(quote: Quote, payment: Row[Any]) -> None:
    sell = quote.sell_amount
    same_amount = (sell.minor, sell.currency) == (payment.amount_minor, payment.currency)
    if not same_amount or quote.buy_amount.currency != payment.settle_currency:
        raise Refused(
            Refusal.QUOTE_MISMATCH,
            "the quote is for another amount or currency than the payment",
            {
                "quote_sells": str(sell),
                "quote_buys": quote.buy_amount.currency,
                "payment_currency": payment.currency,
                "payment_amount_minor": payment.amount_minor,
                "settle_currency": payment.settle_currency,
            },
        )


def _require_time(quote: Quote, now: datetime, is_marked: bool = False) -> None:
    if is_marked or quote.expires_at <= now:
        raise Refused(
            Refusal.QUOTE_EXPIRED,
            "the quote has expired; ask for a new one",
            {"expired_at": rfc3339(quote.expires_at)},
        )


def _status_at(row: Row[Any], now: datetime) -> QuoteStatus:
    """An open quote past its time is shown as expired even before `expire_due` has marked it."""
    status = QuoteStatus(row.status)
    return QuoteStatus.EXPIRED if status is QuoteStatus.OPEN and row.expires_at <= now else status


def _quote(row: Row[Any]) -> Quote:
    return Quote.model_validate(row.body)


def _not_found(quote_id: str) -> Refused:
    return Refused(Refusal.NOT_FOUND, "no such quote", {"quote": quote_id})
