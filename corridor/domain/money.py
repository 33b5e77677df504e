"""Money: an integer of minor units plus an ISO 4217 code; no float, no implicit rounding."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_EVEN, Decimal, localcontext
from enum import StrEnum

from corridor.domain.currency import exponent
from corridor.domain.failure import Refusal, Refused, invariant

MINOR_LIMIT = 10**15
"""Amounts stay below this (and so below 2^53), which every JSON reader in the field keeps exact."""


class Rounding(StrEnum):
    """How a conversion loses its fraction of a minor unit; always named at the call."""

    HALF_EVEN = "half_even"
    DOWN = "down"
    UP = "up"

    def decimal_mode(self) -> str:
        return {Rounding.HALF_EVEN: ROUND_HALF_EVEN, Rounding.DOWN: ROUND_DOWN, Rounding.UP: ROUND_CEILING}[
            self
        ]


@dataclass(frozen=True, order=False)
class Money:
    """`minor` units of `currency`; may be negative (a ledger leg). Raises `Refused` on a bad code or size."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.minor) is not int:
            raise Refused(
                Refusal.INVALID_PARAMETER, "an amount is an integer of minor units", pointer="/minor"
            )
        exponent(self.currency)
        if abs(self.minor) >= MINOR_LIMIT:
            raise Refused(Refusal.AMOUNT_OUT_OF_RANGE, f"amounts are below {MINOR_LIMIT} minor units")

    def __add__(self, other: "Money") -> "Money":
        return Money(self.minor + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.minor - self._same(other), self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.minor, self.currency)

    def __le__(self, other: "Money") -> bool:
        return self.minor <= self._same(other)

    def __lt__(self, other: "Money") -> bool:
        return self.minor < self._same(other)

    def __str__(self) -> str:
        return f"{self.major()} {self.currency}"

    @property
    def is_zero(self) -> bool:
        return self.minor == 0

    def major(self) -> Decimal:
        """The amount in major units, with exactly the currency's decimals (12345 EUR minor → 123.45)."""
        return Decimal(self.minor).scaleb(-exponent(self.currency))

    def _same(self, other: "Money") -> int:
        invariant(self.currency == other.currency, f"{self.currency} and {other.currency} are never added")
        return other.minor


def zero(currency: str) -> Money:
    return Money(0, currency)


def convert(money: Money, rate: Decimal, target: str, rounding: Rounding) -> Money:
    """Convert at `rate` units of `target` per 1 unit of `money.currency`, rounding once, at the end."""
    invariant(rate > 0, "a rate is positive")
    with localcontext() as context:
        context.prec = 50
        exact = money.major() * rate
        minor = exact.scaleb(exponent(target)).quantize(Decimal(1), rounding=rounding.decimal_mode())
    return Money(int(minor), target)


def basis_points(money: Money, bps: int, rounding: Rounding) -> Money:
    """`bps` / 10,000 of `money`, rounded as named."""
    return share(money, bps, 10_000, rounding)


def share(money: Money, numerator: int, denominator: int, rounding: Rounding) -> Money:
    """`numerator / denominator` of `money`, rounded as named."""
    invariant(denominator > 0, "a share needs a positive denominator")
    with localcontext() as context:
        context.prec = 50
        exact = Decimal(money.minor) * numerator / denominator
        minor = exact.quantize(Decimal(1), rounding=rounding.decimal_mode())
    return Money(int(minor), money.currency)


def allocate(money: Money, weights: Sequence[int]) -> list[Money]:
    """Split by largest remainder: the parts sum exactly, zero weights get zero, ties go to the lower index.

    The absolute value is allocated and the sign restored, so that a refund mirrors its charge.
    """
    total = sum(weights)
    invariant(
        total > 0 and all(weight >= 0 for weight in weights), "weights are non-negative, one is positive"
    )
    amount, sign = abs(money.minor), (1 if money.minor >= 0 else -1)
    parts = [amount * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(amount * weights[i] % total), i))
    for index in by_remainder[: amount - sum(parts)]:
        parts[index] += 1
    return [Money(sign * part, money.currency) for part in parts]
