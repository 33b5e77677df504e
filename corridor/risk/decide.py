"""The risk decision: rules and facts in, verdict and every reason out. Pure, and the same for the same input.

All rules are always evaluated, so a decision names everything that was wrong, not the first thing; the verdict is
the worst of its reasons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from corridor.domain.failure import invariant
from corridor.domain.money import Money
from corridor.risk.policy import AmountRule, Policy, Scope, VelocityRule


class Verdict(StrEnum):
    """What happens to the payment; review waits for a person."""

    ACCEPT = "accept"
    REVIEW = "review"
    DECLINE = "decline"

    @property
    def severity(self) -> int:
        return (Verdict.ACCEPT, Verdict.REVIEW, Verdict.DECLINE).index(self)


class ReasonCode(StrEnum):
    """What a rule found; a closed list, so figures per reason stay comparable."""

    AMOUNT_BELOW_MINIMUM = "amount_below_minimum"
    AMOUNT_ABOVE_MAXIMUM = "amount_above_maximum"
    AMOUNT_ABOVE_REVIEW = "amount_above_review"
    AMOUNT_NOT_VALUED = "amount_not_valued"
    VELOCITY_COUNT = "velocity_count"
    VELOCITY_AMOUNT = "velocity_amount"
    COUNTRY_BLOCKED = "country_blocked"
    COUNTRY_REVIEW = "country_review"
    CORRIDOR_NOT_ENABLED = "corridor_not_enabled"


@dataclass(frozen=True)
class Reason:
    """One finding: `rule` is the policy's name for it, `observed` and `limit` are what was compared."""

    code: ReasonCode
    verdict: Verdict
    rule: str
    observed: str
    limit: str

    def as_data(self) -> dict[str, str]:
        return {
            "code": str(self.code),
            "verdict": str(self.verdict),
            "rule": self.rule,
            "observed": self.observed,
            "limit": self.limit,
        }


@dataclass(frozen=True)
class Velocity:
    """What one velocity rule observed, this payment included. `count` stops one past the rule's highest limit.

    `amount` is the sum of what has a value in euros, None when the rule limits no amount; `unvalued` names the
    currencies of the window that have no value, so that a sum is never taken for complete when it is not.
    """

    rule_id: str
    count: int
    amount: Money | None
    unvalued: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything a decision depends on, besides the policy. `value` is the amount in euros, None if unknown."""

    amount: Money
    value: Money | None
    valuation: str
    source_country: str
    destination_country: str
    corridor: str
    velocities: tuple[Velocity, ...]

    def as_data(self) -> dict[str, object]:
        return {
            "amount": str(self.amount),
            "value": str(self.value) if self.value else None,
            "valuation": self.valuation,
            "source_country": self.source_country,
            "destination_country": self.destination_country,
            "corridor": self.corridor,
            "velocities": [
                {
                    "rule": seen.rule_id,
                    "count": seen.count,
                    "amount": str(seen.amount) if seen.amount else None,
                    "unvalued": list(seen.unvalued),
                }
                for seen in self.velocities
            ],
        }


@dataclass(frozen=True)
class Decision:
    """The worst verdict of all reasons, and what it rested on; `inputs` are `Facts.as_data()`."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    policy_version: str
    inputs: dict[str, object]


def decide(policy: Policy, facts: Facts) -> Decision:
    """Judge by every rule of `policy`. Payer rules need a payer: they are left out when the merchant names none."""
    rules = policy.rules
    reasons = [
        *_countries(policy, facts),
        *_corridor(policy, facts),
        *judge_amount(rules.amount, facts.value),
    ]
    observed = {seen.rule_id: seen for seen in facts.velocities}
    for rule in rules.velocity:
        if rule.id in observed:
            reasons += _velocity(rule, observed[rule.id])
        else:
            invariant(rule.scope is Scope.PAYER, f"{rule.id} was not observed")
    verdict = max((reason.verdict for reason in reasons), key=lambda it: it.severity, default=Verdict.ACCEPT)
    return Decision(verdict, tuple(reasons), policy.version, facts.as_data())


def judge_amount(rule: AmountRule, value: Money | None) -> list[Reason]:
    """The limits of one payment; also used before a payment is accepted, to refuse what would be declined."""
    if value is None:
        return [Reason(ReasonCode.AMOUNT_NOT_VALUED, Verdict.REVIEW, "amount", "no rate", "a value in EUR")]
    if value < rule.minimum:
        return [_amount(ReasonCode.AMOUNT_BELOW_MINIMUM, Verdict.DECLINE, "minimum_eur", value, rule.minimum)]
    if rule.maximum < value:
        return [_amount(ReasonCode.AMOUNT_ABOVE_MAXIMUM, Verdict.DECLINE, "maximum_eur", value, rule.maximum)]
    if rule.review_above < value:
        return [
            _amount(
                ReasonCode.AMOUNT_ABOVE_REVIEW, Verdict.REVIEW, "review_above_eur", value, rule.review_above
            )
        ]
    return []


def _amount(code: ReasonCode, verdict: Verdict, limit_name: str, value: Money, limit: Money) -> Reason:
    return Reason(code, verdict, f"amount.{limit_name}", str(value), str(limit))


def _countries(policy: Policy, facts: Facts) -> Iterator[Reason]:
    rule = policy.rules.countries
    for side, country in (("source", facts.source_country), ("destination", facts.destination_country)):
        if country in rule.blocked:
            yield Reason(
                ReasonCode.COUNTRY_BLOCKED, Verdict.DECLINE, f"countries.blocked.{side}", country, "blocked"
            )
        elif country in rule.review:
            yield Reason(
                ReasonCode.COUNTRY_REVIEW, Verdict.REVIEW, f"countries.review.{side}", country, "review"
            )


def _corridor(policy: Policy, facts: Facts) -> Iterator[Reason]:
    if not policy.rules.corridors.is_open(facts.corridor):
        yield Reason(
            ReasonCode.CORRIDOR_NOT_ENABLED,
            Verdict.DECLINE,
            "corridors.enabled",
            facts.corridor,
            "an enabled corridor",
        )


def _velocity(rule: VelocityRule, seen: Velocity) -> Iterator[Reason]:
    name = f"velocity.{rule.id}"
    limits = ((Verdict.DECLINE, rule.decline_above_count), (Verdict.REVIEW, rule.review_above_count))
    for verdict, limit in limits:
        if limit is not None and seen.count > limit:
            yield Reason(ReasonCode.VELOCITY_COUNT, verdict, name, str(seen.count), str(limit))
            break
    if seen.unvalued:
        missing = " ".join(seen.unvalued)
        yield Reason(
            ReasonCode.AMOUNT_NOT_VALUED, Verdict.REVIEW, name, f"no rate: {missing}", "a value in EUR"
        )
    if seen.amount is not None:
        yield from _velocity_amount(rule, name, seen.amount)


def _velocity_amount(rule: VelocityRule, name: str, amount: Money) -> Iterator[Reason]:
    for verdict, limit in ((Verdict.DECLINE, rule.decline_above), (Verdict.REVIEW, rule.review_above)):
        if limit is not None and limit < amount:
            yield Reason(ReasonCode.VELOCITY_AMOUNT, verdict, name, str(amount), str(limit))
            return
