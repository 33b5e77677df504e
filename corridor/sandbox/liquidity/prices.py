"""Prices around the ECB reference: a seeded wander per second, a spread, and a premium for the lock."""

import hashlib
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

from corridor.sandbox.liquidity.houses import MAJORS, House
from corridor.sandbox.rates import ReferenceRates

RATE = Context(prec=10)
DAY_SECONDS = Decimal(86_400)
# Movement on three time scales, in shares of a house's wander; they sum to one.
SCALES = ((1, Decimal("0.2")), (13, Decimal("0.3")), (89, Decimal("0.5")))


@dataclass(frozen=True)
class Price:
    """`rate` and `mid` are units of the bought currency for one of the sold; both have 10 significant digits."""

    rate: Decimal
    mid: Decimal
    spread_bps: Decimal
    premium_bps: Decimal


def price(
    rates: ReferenceRates, house: House, seed: str, sell: str, buy: str, second: int, lock_seconds: int
) -> Price | None:
    """What a house asks at one second; None for a pair without a published series."""
    reference = rates.mid(sell, buy)
    if reference is None:
        return None
    mid = RATE.multiply(reference, 1 + wander(seed, house, sell, buy, second) / 10_000)
    spread = house.spread_bps if {sell, buy} <= MAJORS else house.exotic_spread_bps
    premium = _premium(house, lock_seconds)
    return Price(RATE.multiply(mid, 1 - (spread + premium) / 10_000), mid, spread, premium)


def wander(seed: str, house: House, sell: str, buy: str, second: int) -> Decimal:
    """Basis points off the reference; one walk per pair, seen inverted from the other side."""
    low, high = sorted((sell, buy))
    sign = 1 if sell == low else -1
    steps = (
        share * _between(f"{seed}:{house.name}:{low}/{high}:{period}", second, period)
        for period, share in SCALES
    )
    return (sign * house.wander_bps * sum(steps, Decimal(0))).quantize(Decimal("0.0001"), ROUND_HALF_EVEN)


def _between(name: str, second: int, period: int) -> Decimal:
    """Noise in [-1, 1], drawn once per period and connected by straight lines."""
    index, offset = divmod(second, period)
    before, after = _noise(f"{name}:{index}"), _noise(f"{name}:{index + 1}")
    return before + (after - before) * offset / period


def _noise(name: str) -> Decimal:
    drawn = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return Decimal(drawn) / Decimal(2**31) - 1


def _premium(house: House, lock_seconds: int) -> Decimal:
    share = (Decimal(lock_seconds) / DAY_SECONDS).sqrt()
    return (house.daily_premium_bps * share).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
