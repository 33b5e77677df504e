"""How the two fake liquidity providers differ: price, size, lock, speed and what they refuse."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class House:
    """A liquidity provider. Spreads are basis points against the client; minimum and maximum are in EUR."""

    name: str
    spread_bps: Decimal
    exotic_spread_bps: Decimal
    wander_bps: Decimal
    daily_premium_bps: Decimal  # price of a lock of one day; grows with the root of time
    longest_lock_seconds: int
    minimum_eur: Decimal
    maximum_eur: Decimal
    latency_milliseconds: int
    refuses: frozenset[str] = frozenset()


MAJORS = frozenset(
    {"EUR", "USD", "GBP", "JPY", "CHF", "CAD", "AUD", "CNY", "SEK", "NOK", "DKK", "SGD", "HKD", "NZD"}
)

HOUSES: Mapping[str, House] = {
    # Tight and quick for majors, short locks, no appetite for emerging currencies.
    "atlas": House(
        name="atlas",
        spread_bps=Decimal(6),
        exotic_spread_bps=Decimal(35),
        wander_bps=Decimal(3),
        daily_premium_bps=Decimal(40),
        longest_lock_seconds=300,
        minimum_eur=Decimal(1),
        maximum_eur=Decimal(250000),
        latency_milliseconds=5,
        refuses=frozenset({"TRY", "ISK", "IDR", "PHP", "BRL"}),
    ),
    # Dearer and slower, locks for a day, quotes everything that is published.
    "borealis": House(
        name="borealis",
        spread_bps=Decimal(11),
        exotic_spread_bps=Decimal(22),
        wander_bps=Decimal(5),
        daily_premium_bps=Decimal(18),
        longest_lock_seconds=86_400,
        minimum_eur=Decimal(5),
        maximum_eur=Decimal(2000000),
        latency_milliseconds=40,
    ),
}
