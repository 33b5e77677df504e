"""What FX needs from outside: a source of reference rates and liquidity providers that offer to deal."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from corridor.domain.failure import Refusal, Refused
from corridor.domain.money import Money


class RateProblem(StrEnum):
    """Why there is no reference rate."""

    NOT_PUBLISHED = "not_published"
    TOO_OLD = "too_old"
    BEFORE_FIRST_DAY = "before_first_day"


class RateUnavailable(Refused):
    """No rate may be used for this pair on this day. The API answers it as `rate_unavailable`."""

    def __init__(self, reason: RateProblem, detail: str, **facts: str) -> None:
        super().__init__(Refusal.RATE_UNAVAILABLE, detail, {"reason": str(reason), **facts})
        self.reason = reason


class OfferProblem(StrEnum):
    """Why a liquidity provider's answer is not an offer we may take."""

    SILENT = "silent"
    UNREACHABLE = "unreachable"
    DECLINED = "declined"
    MALFORMED = "malformed"
    OTHER_PAIR = "other_pair"
    INCONSISTENT = "inconsistent"
    EXPIRED = "expired"
    LOCK_TOO_SHORT = "lock_too_short"
    BELOW_MINIMUM = "below_minimum"
    OFF_REFERENCE = "off_reference"
    FAILED = "failed"


class OfferUnavailable(Exception):
    """A liquidity provider gave no usable offer; kept as evidence, it never fails the quote by itself."""

    def __init__(self, provider: str, reason: OfferProblem, detail: str) -> None:
        super().__init__(f"{provider}: {reason}: {detail}")
        self.provider = provider
        self.reason = reason
        self.detail = detail


class NoOffer(Refused):
    """Nobody offers this conversion now. `passing`: somebody was out of reach, so asking again may help."""

    def __init__(self, detail: str, considered: list[str], passing: bool) -> None:
        super().__init__(Refusal.RATE_UNAVAILABLE, detail, {"considered": considered})
        self.passing = passing


class AcceptUnknown(Exception):
    """The acceptance may have reached the provider. Ask again with the same reference, never another provider."""


@dataclass(frozen=True)
class Leg:
    """One published figure behind a rate: `text` is the source's own wording (`EUR/CNY`, `7.4326`)."""

    pair: str
    text: str


@dataclass(frozen=True)
class MidRate:
    """`rate` units of `quote` per 1 `base`, as published for the day `as_of`; a cross keeps both its legs."""

    base: str
    quote: str
    rate: Decimal
    source: str
    as_of: date
    legs: tuple[Leg, ...]


class RateSource(Protocol):
    """Reference (mid) rates: for valuation, plausibility and limits, never to deal at."""

    def rate(self, base: str, quote: str, on: date) -> MidRate:
        """The rate in force on `on`. Raises `RateUnavailable`; never interpolates, never extends a series."""
        ...


@dataclass(frozen=True)
class Offer:
    """A liquidity provider's binding offer: `rate` units of `buy_currency` per 1 unit of `sell.currency`.

    `spread_bps` is all that `rate` lies below the provider's own `mid` (spread and premium for the lock), rounded up
    to a whole basis point: what is built on it never promises more than the provider gives.
    """

    provider: str
    reference: str
    sell: Money
    buy_currency: str
    rate: Decimal
    mid: Decimal
    mid_as_of: str
    spread_bps: int
    expires_at: datetime
    minimum: Money | None = None
    """Smallest deal, if the provider states it in the sell currency; otherwise it refuses small ones itself."""


class LiquidityProvider(Protocol):
    """A company that offers a rate for an amount and a lock time, and may be taken at its word until expiry."""

    name: str

    async def quote(self, sell: Money, buy_currency: str, lock_seconds: int) -> Offer:
        """Ask for an offer. Moves nothing, so it may be repeated. Raises `OfferUnavailable`."""
        ...

    async def accept(self, reference: str, our_reference: str) -> None:
        """Take the offer; idempotent by `our_reference`. Raises `OfferUnavailable` (no deal) or `AcceptUnknown`."""
        ...
