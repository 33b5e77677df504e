"""What is refused at the door instead of declined later: amounts and corridors that no review could allow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from corridor.domain.accepted import NewPayment
from corridor.domain.failure import Refusal, Refused
from corridor.risk.decide import Verdict, judge_amount
from corridor.risk.policy import Policies
from corridor.risk.valuation import Valuation, unvalued


@dataclass(frozen=True)
class PolicyAdmission:
    """Reads the risk policy in force. Velocity and everything else is judged once the payment exists."""

    policies: Policies
    per_euro: Callable[[datetime], tuple[date, Mapping[str, Decimal]]]
    """(as_of, units per 1 EUR); raises `Refused(RATE_UNAVAILABLE)` on a day without rates."""

    def check(self, new: NewPayment, now: datetime) -> None:
        """Raises `Refused` (CORRIDOR_NOT_ENABLED, LIMIT_EXCEEDED) with the rule and its source."""
        policy = self.policies.in_force(now)
        if not policy.rules.corridors.is_open(new.corridor):
            raise Refused(
                Refusal.CORRIDOR_NOT_ENABLED,
                f"payments from {new.source_country} in {new.amount.currency} to {new.destination_country} in "
                f"{new.settle_currency} are not offered",
                {"policy": policy.version, "corridor": new.corridor},
                pointer="/buyer/country",
            )
        value = self._valuation(now).completed_by(policy.rules.amount).value(new.amount)
        for reason in judge_amount(policy.rules.amount, value):
            if reason.verdict is Verdict.DECLINE:
                raise Refused(
                    Refusal.LIMIT_EXCEEDED,
                    f"{new.amount} is outside the limits of one payment",
                    {"policy": policy.version, "rule": reason.rule, "limit": reason.limit},
                    pointer="/amount/minor",
                )

    def _valuation(self, now: datetime) -> Valuation:
        try:
            as_of, figures = self.per_euro(now)
        except Refused:
            return unvalued("no reference rates")
        return Valuation(figures, f"ECB {as_of.isoformat()}")
