"""The posting rules: which accounts each business fact moves. Pure; the store only writes what they return.

Decided here, once:
- Money owed to a merchant waits in `pending` in the buyer's currency until the provider settles, and becomes
  `available` in the settlement currency at the rate that was locked, less our fee.
- Our fee and the FX spread are not given back on a refund: the merchant's leg of a refund is the converted amount
  before fees (`refund_share`), taken from `available`.
- A refund holds its money in `reserved` from the moment it is accepted until the provider's answer is proven.
- A provider's report is booked line by line as reported, never recomputed; the payout row itself is its control
  total and posts nothing.
"""

from typing import Protocol

from corridor.domain.failure import invariant
from corridor.domain.money import Money, Rounding, basis_points, share
from corridor.domain.outcome import Frozen
from corridor.domain.posting import Entry, Posting, credit, debit, posting
from corridor.domain.quote import Quote
from corridor.ledger import chart


class ReportedLine(Protocol):
    """A settlement report's row, as signed minor units on our account there: `gross = net + fee`.

    `converted_from` is the buyer's amount when the provider settled in another currency.
    """

    @property
    def gross(self) -> Money: ...
    @property
    def fee(self) -> Money: ...
    @property
    def net(self) -> Money: ...
    @property
    def converted_from(self) -> Money | None: ...


class MerchantShare(Frozen):
    """What becomes of a merchant's pending money at settlement: `at_mid = spread + fee + net`.

    `converted` = `fee + net` is the basis of later refunds; without a quote nothing is converted.
    """

    at_mid: Money
    converted: Money
    spread: Money
    fee: Money
    net: Money


def capture(key: str, payment_id: str, merchant_id: str, provider: str, amount: Money) -> Posting:
    """The provider collected `amount` from the buyer; we owe it to the merchant."""
    legs = [debit(chart.clearing(provider), amount), credit(chart.pending(merchant_id), amount)]
    return posting(key, "capture", payment_id, legs)


def merchant_share(remaining: Money, quote: Quote | None, fee_bps: int) -> MerchantShare:
    """Split `remaining` (buyer's currency) at the locked quote; of a part, each amount is its half-even share.

    Amounts decide, not the rate. Our fee is `fee_bps` of the converted amount, rounded half-even.
    """
    at_mid = converted = remaining
    if quote is not None:
        invariant(remaining <= quote.sell_amount, "no more is converted than the quote was locked for")
        at_mid = _part(quote.mid_amount, remaining, quote.sell_amount)
        converted = _part(quote.buy_amount, remaining, quote.sell_amount)
    fee = basis_points(converted, fee_bps, Rounding.HALF_EVEN)
    return MerchantShare(
        at_mid=at_mid, converted=converted, spread=at_mid - converted, fee=fee, net=converted - fee
    )


def settle(
    key: str,
    payment_id: str,
    merchant_id: str,
    provider: str,
    line: ReportedLine,
    remaining: Money,
    quote: Quote | None,
    fee_bps: int,
) -> Posting:
    """The provider settled a charge: clearing is discharged and the merchant's money becomes available.

    `remaining` is what is still pending of this payment: captured less refunded and reserved, buyer's currency.
    """
    legs = _provider_legs(chart.clearing(provider), line) + _merchant_legs(
        merchant_id, remaining, quote, fee_bps
    )
    return posting(key, "settle", payment_id, legs)


def settle_late(
    key: str, object_id: str, merchant_id: str, amount: Money, quote: Quote | None, fee_bps: int
) -> Posting:
    """Pending money that came back after its payment had settled: a refund reserved before it, released after.

    Converted as `settle` would have done. Post it after the `refund_release` or `refund_failed_before_settlement`.
    """
    return posting(key, "settle_late", object_id, _merchant_legs(merchant_id, amount, quote, fee_bps))


def refund_share(
    charged: Money, converted: Money, refunded: Money, given_back: Money, amount: Money
) -> Money:
    """The merchant's leg, in the settlement currency, of refunding `amount` at the payment's original rate.

    `charged` and `converted` are the two sides of what was settled; `refunded` and `given_back` of what earlier
    refunds (reserved ones too) took. Rounded on the running total, so the last refund takes the exact remainder.
    """
    so_far = refunded + amount
    invariant(so_far <= charged, "no more is refunded than was settled")
    target = _part(converted, so_far, charged)
    # A refund that failed in between may leave `given_back` a unit off its own share: stay within what is left.
    return Money(max(0, target.minor - given_back.minor), converted.currency)


def refund_reserve_before_settlement(key: str, refund_id: str, merchant_id: str, amount: Money) -> Posting:
    """A refund was accepted while the money is pending; `amount` in the buyer's currency."""
    return _reserve(key, refund_id, merchant_id, chart.pending(merchant_id), amount)


def refund_reserve_after_settlement(
    key: str, refund_id: str, merchant_id: str, amount_in_settle_currency: Money
) -> Posting:
    """A refund was accepted after settlement; the amount is `refund_share`."""
    return _reserve(key, refund_id, merchant_id, chart.available(merchant_id), amount_in_settle_currency)


def refund_release(key: str, refund_id: str, merchant_id: str, amount: Money, reserved_from: str) -> Posting:
    """The refund did not happen: the exact reverse of its reservation. `reserved_from` is the full account name."""
    path = reserved_from.removesuffix(f"/{amount.currency}")
    invariant(
        path in (chart.pending(merchant_id), chart.available(merchant_id)),
        f"refunds are not reserved from {reserved_from}",
    )
    legs = [debit(chart.reserved(merchant_id), amount), credit(path, amount)]
    return posting(key, "refund_release", refund_id, legs)


def refund_done_before_settlement(
    key: str, refund_id: str, merchant_id: str, provider: str, amount: Money
) -> Posting:
    """The provider returned `amount` to the buyer before it had settled the charge."""
    legs = [debit(chart.reserved(merchant_id), amount), credit(chart.clearing(provider), amount)]
    return posting(key, "refund", refund_id, legs)


def refund_done_after_settlement(
    key: str, refund_id: str, merchant_id: str, provider: str, reserved: Money, amount: Money
) -> Posting:
    """The provider returned `amount` (buyer's currency); the merchant gives up `reserved` (settlement currency)."""
    legs = [debit(chart.reserved(merchant_id), reserved), *_exchange(reserved, amount)]
    return posting(key, "refund", refund_id, [*legs, credit(chart.clearing(provider), amount)])


def refund_failed_before_settlement(
    key: str, refund_id: str, merchant_id: str, provider: str, amount: Money
) -> Posting:
    """A refund that had succeeded came back (docs.stripe.com/refunds#failed-refunds): it is pending again."""
    legs = [debit(chart.clearing(provider), amount), credit(chart.pending(merchant_id), amount)]
    return posting(key, "refund_failed", refund_id, legs)


def refund_failed_after_settlement(
    key: str, refund_id: str, merchant_id: str, provider: str, reserved: Money, amount: Money
) -> Posting:
    """The same after settlement: the merchant gets back exactly what it had given up."""
    legs = [debit(chart.clearing(provider), amount), *_exchange(amount, reserved)]
    return posting(key, "refund_failed", refund_id, [*legs, credit(chart.available(merchant_id), reserved)])


def refund_settled(key: str, refund_id: str, provider: str, line: ReportedLine) -> Posting:
    """The provider netted a refund (negative gross) in a payout, or paid a failed one back (positive)."""
    return posting(key, "refund_settled", refund_id, _provider_legs(chart.clearing(provider), line))


def provider_fee(key: str, line_id: str, line: ReportedLine) -> Posting:
    """The provider charged us a fee that belongs to no single payment; positive gross: it gave one back."""
    return posting(key, "provider_fee", line_id, _provider_legs(chart.PROVIDER_FEES, line))


def adjustment(key: str, line_id: str, line: ReportedLine) -> Posting:
    """A report row we cannot attribute: its money stands in suspense until somebody explains it."""
    return posting(key, "adjustment", line_id, _provider_legs(chart.SUSPENSE, line))


def _reserve(key: str, refund_id: str, merchant_id: str, path: str, amount: Money) -> Posting:
    return posting(
        key, "refund_reserve", refund_id, [debit(path, amount), credit(chart.reserved(merchant_id), amount)]
    )


def _provider_legs(against: str, line: ReportedLine) -> list[Entry]:
    """Bank takes the net, expense the fee, and `against` gives the gross, in the currency the buyer was charged."""
    invariant(line.gross == line.net + line.fee, "a report row's gross is its net plus its fee")
    legs = [_leg(chart.bank(), line.net), _leg(chart.PROVIDER_FEES, line.fee)]
    if line.converted_from is None or line.converted_from.currency == line.gross.currency:
        return [*legs, _leg(against, -line.gross)]
    return [
        *legs,
        _leg(chart.FX_POSITION, -line.gross),
        _leg(chart.FX_POSITION, line.converted_from),
        _leg(against, -line.converted_from),
    ]


def _merchant_legs(merchant_id: str, remaining: Money, quote: Quote | None, fee_bps: int) -> list[Entry]:
    """pending → (position at the mid rate, spread) → our fee → available; each step a leg of its own."""
    parts = merchant_share(remaining, quote, fee_bps)
    pending = chart.pending(merchant_id)
    conversion = (
        []
        if quote is None
        else [
            debit(pending, remaining),
            *_exchange(remaining, parts.at_mid),
            credit(pending, parts.at_mid),
            debit(pending, parts.spread),
            credit(chart.FX_SPREAD_INCOME, parts.spread),
        ]
    )
    return [
        *conversion,
        debit(pending, parts.fee),
        credit(chart.FEE_INCOME, parts.fee),
        debit(pending, parts.net),
        credit(chart.available(merchant_id), parts.net),
    ]


def _exchange(given: Money, taken: Money) -> list[Entry]:
    """The two position legs of a conversion: we receive `given` and hand out `taken`."""
    if given.currency == taken.currency:
        invariant(given == taken, "within one currency an exchange gives what it takes")
        return []
    return [credit(chart.FX_POSITION, given), debit(chart.FX_POSITION, taken)]


def _part(total: Money, numerator: Money, denominator: Money) -> Money:
    invariant(numerator.currency == denominator.currency, "a part is counted in one currency")
    return share(total, numerator.minor, denominator.minor, Rounding.HALF_EVEN)


def _leg(path: str, amount: Money) -> Entry:
    """A leg whose side follows the report's sign: positive is a debit."""
    return debit(path, amount) if amount.minor >= 0 else credit(path, -amount)
