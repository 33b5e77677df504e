"""Stripe's settlement report: automatic payouts and the balance transactions each of them pays out.

Source: https://docs.stripe.com/payouts/reconciliation. Amounts are booked as reported; the rate is information.
"""

from datetime import datetime
from typing import Literal

from corridor.domain.money import Money
from corridor.domain.settlement import BadRow, SettlementBatch, SettlementLine, SettlementPage
from corridor.providers.document import Document
from corridor.providers.port import LookUpFailed
from corridor.providers.stripe.client import Query, StripeClient
from corridor.providers.stripe.currencies import from_stripe
from corridor.providers.stripe.lookup import read

PAYOUTS = "/v1/payouts"
BALANCE_TRANSACTIONS = "/v1/balance_transactions"
PAGE_SIZE = "100"
MAXIMUM_PAGES = 100

Kind = Literal["charge", "refund", "fee", "adjustment", "payout", "other"]

KINDS: dict[str, Kind] = {
    "charge": "charge",
    "payment": "charge",
    "refund": "refund",
    "payment_refund": "refund",
    "stripe_fee": "fee",
    "stripe_fx_fee": "fee",
    "tax_fee": "fee",
    "adjustment": "adjustment",
    "refund_failure": "adjustment",
    "payment_failure_refund": "adjustment",
    "payout": "payout",
}
"""https://docs.stripe.com/reports/balance-transaction-types. A failed refund returns money that had left: it is no
second refund. Failed and canceled payouts, reserves, transfers and types invented later are `other`."""

_RAW_KEYS = ("id", "type", "amount", "fee", "net", "currency", "exchange_rate", "available_on", "created")


class BatchesNotRead(LookUpFailed):
    """The list of payouts or a page of rows could not be read as such."""


async def batches(client: StripeClient, since: datetime) -> tuple[SettlementBatch, ...]:
    """Paid automatic payouts whose contents are complete, oldest first. Raises `LookUpFailed`.

    Only automatic payouts know what they contain; `reconciliation_status` says when the list is complete, which is
    later than `paid`.
    """
    found: list[SettlementBatch] = []
    query = [("created[gte]", str(int(since.timestamp()))), ("status", "paid"), ("limit", PAGE_SIZE)]
    cursor: Query = []
    for _ in range(MAXIMUM_PAGES):
        page, _reply = await read(client, PAYOUTS, [*query, *cursor])
        rows = page.rows("data")
        found += [batch_of(row) for row in rows if row is not None and _is_complete(row)]
        if page.flag("has_more") is False:
            return tuple(reversed(found))
        cursor = [("starting_after", _last_id(rows))]
    raise BatchesNotRead("more payouts than can be read at once; ask for a later start")


async def page_of(client: StripeClient, batch_id: str, cursor: str | None) -> SettlementPage:
    """Up to 100 rows of a payout, its own row (kind `payout`) among them. Raises `LookUpFailed`."""
    query = [("payout", batch_id), ("limit", PAGE_SIZE), ("expand[0]", "data.source")]
    if cursor is not None:
        query.append(("starting_after", cursor))
    page, _ = await read(client, BALANCE_TRANSACTIONS, query)
    if page.text("object") != "list":
        raise BatchesNotRead("the answer is not a list")
    rows = page.rows("data")
    read_rows = [
        line_of(row, batch_id, f"{batch_id}, {cursor or 'first page'}, row {n}")
        for n, row in enumerate(rows, 1)
    ]
    return SettlementPage(
        lines=tuple(row for row in read_rows if isinstance(row, SettlementLine)),
        bad_rows=tuple(row for row in read_rows if isinstance(row, BadRow)),
        next_cursor=None if page.flag("has_more") is False else _last_id(rows),
    )


def batch_of(payout: Document) -> SettlementBatch:
    """A payout as control total. Raises `LookUpFailed` when a complete payout cannot be read."""
    total = _money(payout, "amount")
    batch_id, arrives_at, created_at = (
        payout.word("id"),
        payout.instant("arrival_date"),
        payout.instant("created"),
    )
    if total is None or batch_id is None or arrives_at is None or created_at is None:
        raise BatchesNotRead(f"payout {batch_id} lacks its amount or its dates")
    return SettlementBatch(
        batch_id=batch_id,
        total=total,
        status=payout.word("status") or "",
        arrives_at=arrives_at,
        created_at=created_at,
    )


def line_of(row: Document | None, batch_id: str, position: str) -> SettlementLine | BadRow:
    """One balance transaction; whatever is wrong with it stays with it."""
    if row is None:
        return BadRow(line_id=position, reason="not an object", raw="")
    gross, fee, net = _money(row, "amount"), _money(row, "fee"), _money(row, "net")
    line_id, kind = row.word("id"), row.word("type")
    available_at, created_at = row.instant("available_on"), row.instant("created")
    if line_id is None or kind is None or available_at is None or created_at is None:
        return _bad(row, position, "id, type or dates are missing")
    if gross is None or fee is None or net is None:
        return _bad(row, position, "amounts are missing or not whole minor units of an ISO currency")
    if gross != net + fee:
        return _bad(row, position, "amount is not net plus fee")
    rate, source = row.decimal("exchange_rate"), row.section("source")
    return SettlementLine(
        line_id=line_id,
        batch_id=batch_id,
        kind=KINDS.get(kind, "other"),
        provider_kind=kind,
        provider_reference=_reference(row, source),
        effect_key=source.section("metadata").word("corridor_effect"),
        payment_id=source.section("metadata").word("corridor_payment"),
        gross=gross,
        fee=fee,
        net=net,
        converted_from=_converted_from(source, gross),
        rate=None if rate is None else format(rate, "f"),
        available_at=available_at,
        created_at=created_at,
    )


def _money(row: Document, key: str) -> Money | None:
    units, currency = row.integer(key), row.word("currency")
    return None if units is None or currency is None else from_stripe(units, currency)


def _reference(row: Document, source: Document) -> str | None:
    """Payments are known by their intent, refunds and payouts by their own id."""
    if not source:
        return row.word("source")
    return (source.word("payment_intent") if source.word("object") == "charge" else None) or source.word("id")


def _converted_from(source: Document, gross: Money) -> Money | None:
    """The buyer's amount with the sign of `gross`, when it was settled in another currency."""
    units, currency = source.integer("amount"), source.word("currency")
    if source.word("object") == "charge":
        # The balance moved by what was captured, which may be less than what was authorised.
        units = source.integer("amount_captured") or units
    money = None if units is None or currency is None else from_stripe(abs(units), currency)
    if money is None or money.currency == gross.currency:
        return None
    return -money if gross.minor < 0 else money


def _bad(row: Document, position: str, reason: str) -> BadRow:
    # The nested source may hold the buyer's name and address: only the row's own facts are kept.
    return BadRow(line_id=row.word("id") or position, reason=reason, raw=row.render(_RAW_KEYS)[:2000])


def _is_complete(payout: Document) -> bool:
    return (
        payout.flag("automatic") is True
        and payout.word("reconciliation_status") == "completed"
        and payout.word("status") == "paid"
    )


def _last_id(rows: tuple[Document | None, ...]) -> str:
    """The cursor to go on from: the last id that can be read; rows after it come again and are met as duplicates."""
    for row in reversed(rows):
        if row is not None and (found := row.word("id")) is not None:
            return found
    raise BatchesNotRead("a page without a single readable id cannot be continued")
