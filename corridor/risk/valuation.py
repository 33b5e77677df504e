"""What an amount is worth in euros, for comparing it with a limit; never a rate to convert money at."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext

from corridor.domain.currency import exponent
from corridor.domain.money import Money
from corridor.risk.policy import EURO, AmountRule


@dataclass(frozen=True)
class Valuation:
    """Units per 1 EUR by currency, with the name of their source and day (`ECB 2026-10-30`)."""

    per_euro: Mapping[str, Decimal]
    named: str

    def completed_by(self, rule: AmountRule) -> "Valuation":
        """Add the policy's planning rates where the source publishes none; a published rate always wins."""
        return Valuation({**rule.assumed_per_euro, **self.per_euro, EURO: Decimal(1)}, self.named)

    def value(self, money: Money) -> Money | None:
        """`money` in euros, rounded up to the cent so a limit is never passed by rounding; None without a rate."""
        rate = self.per_euro.get(money.currency)
        if rate is None:
            return None
        with localcontext() as context:
            context.prec = 50
            cents = (money.major() / rate).scaleb(exponent(EURO))
            return Money(int(cents.to_integral_value(rounding=ROUND_CEILING)), EURO)


def unvalued(reason: str) -> Valuation:
    """For a day without reference rates: only euros and the policy's planning rates have a value."""
    return Valuation({}, reason)
