"""A provider's settlement report: batches it paid out, the rows they consist of, and rows nobody could read."""

from datetime import datetime
from typing import Literal

from corridor.domain.money import Money
from corridor.domain.outcome import Frozen


class SettlementLine(Frozen):
    """One row of a provider's settlement report. Signed minor units as seen from our account there.

    `gross = net + fee`. `payment_reference` is the provider's id of the payment or refund the row belongs to;
    `effect_key` is ours, where the report carries it. `converted_from` is the buyer's amount when the provider
    settled in another currency; amounts are booked as reported, never recomputed from `rate`.
    """

    line_id: str
    batch_id: str
    kind: Literal["charge", "refund", "fee", "adjustment", "payout", "other"]
    provider_kind: str
    provider_reference: str | None
    effect_key: str | None
    payment_id: str | None
    gross: Money
    fee: Money
    net: Money
    converted_from: Money | None
    rate: str | None
    available_at: datetime
    created_at: datetime


class BadRow(Frozen):
    """A report row that could not be read: kept with its reason; the other rows go on."""

    line_id: str
    reason: str
    raw: str


class SettlementPage(Frozen):
    """Up to a provider's page size of rows; `next_cursor` is None on the last page."""

    lines: tuple[SettlementLine, ...]
    bad_rows: tuple[BadRow, ...]
    next_cursor: str | None


class SettlementBatch(Frozen):
    """A payout of the provider to our bank account: the control total its rows must add up to."""

    batch_id: str
    total: Money
    status: str
    arrives_at: datetime
    created_at: datetime
