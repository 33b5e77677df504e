"""A quote: a rate offered with spread, lock time and expiry; `locked` when a payment took it."""

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money, Rounding, convert
from corridor.domain.outcome import Frozen


class QuoteStatus(StrEnum):
    OPEN = "open"
    LOCKED = "locked"
    USED = "used"
    EXPIRED = "expired"
    CANCELED = "canceled"


class Slippage(Frozen):
    """What to do when a lock ran out before execution: requote inside `max_bps`, else reject."""

    max_bps: int = 50
    policy: str = "requote"


class Quote(Frozen):
    """`client_rate` and `mid_rate` are units of `buy` currency per 1 unit of `sell` currency.

    The amounts decide, not the rate: `buy_amount` is what the merchant gets for `sell_amount`, and
    `mid_amount - buy_amount` is the spread in minor units, booked as a leg of its own.
    """

    id: str
    merchant_id: str
    sell_amount: Money
    buy_amount: Money
    mid_amount: Money
    client_rate: Decimal
    mid_rate: Decimal
    mid_source: str
    mid_as_of: str
    spread_bps: int
    liquidity_provider: str
    liquidity_reference: str
    lock_seconds: int
    valid_from: datetime
    expires_at: datetime
    considered: tuple[dict[str, str], ...] = ()
    """Every answer that was compared, winners and losers, as evidence of best execution."""

    def is_executable(self, now: datetime, margin_seconds: int) -> bool:
        """True while a call begun now, and lasting up to `margin_seconds`, still ends inside the lock."""
        return now + timedelta(seconds=margin_seconds) <= self.expires_at

    @property
    def spread(self) -> Money:
        return self.mid_amount - self.buy_amount


def slippage_bps(old: Decimal, new: Decimal) -> Decimal:
    """How much worse `new` is for the merchant than `old`, in basis points (negative: it got better)."""
    return (old - new) / old * 10_000


def client_amounts(sell: Money, mid: Decimal, spread_bps: int, buy: str) -> tuple[Decimal, Money, Money]:
    """(client rate, amount bought, amount at mid); one half-even rounding each.

    Raises `Refused(AMOUNT_OUT_OF_RANGE)` for a quote that would pay nothing after rounding: it is not offered.
    """
    client_rate = mid * (Decimal(10_000 - spread_bps) / 10_000)
    bought = convert(sell, client_rate, buy, Rounding.HALF_EVEN)
    if bought.minor <= 0:
        raise Refused(Refusal.AMOUNT_OUT_OF_RANGE, f"{sell} buys less than one minor unit of {buy}")
    return client_rate, bought, convert(sell, mid, buy, Rounding.HALF_EVEN)
