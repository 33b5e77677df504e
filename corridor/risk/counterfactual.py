"""What a changed risk policy would have decided on recorded facts; where they do not tell, both ends are decided.

A recorded observation answers the question its own rule asked. A changed rule may ask another one (a longer window, a
count that was stopped at the old limit, a sum nobody took), and an earlier payment decided otherwise would have changed
what later ones observed. What would have been observed is therefore an interval. Verdicts only get worse as
counts and sums grow, so the past tells the verdict exactly when it is the same at both ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from corridor.domain.money import MINOR_LIMIT, Money
from corridor.risk.decide import Decision, Facts, Velocity, decide
from corridor.risk.policy import EURO, Policy, Scope, VelocityRule
from corridor.risk.valuation import Valuation

_ENDLESS = Money(MINOR_LIMIT - 1, EURO)
_COUNTLESS = 10**9


@dataclass(frozen=True)
class Shift:
    """By how much other decisions about earlier payments may have changed what a rule observed; euro cents."""

    fewer: int = 0
    more: int = 0
    less_minor: int = 0
    more_minor: int = 0
    boundless: bool = False
    """One of those payments has no value in euros."""


@dataclass(frozen=True)
class Reconsidered:
    """The decision at both ends of what may have been observed; `open_questions` names the rules in doubt."""

    mildest: Decision
    harshest: Decision
    open_questions: tuple[str, ...] = field(default=())

    @property
    def is_certain(self) -> bool:
        return self.mildest.verdict is self.harshest.verdict


def reconsider(
    base: Policy, changed: Policy, facts: Facts, has_payer: bool, shifts: Mapping[str, Shift]
) -> Reconsidered:
    """Decide under `changed` what was decided under `base`. `shifts` by rule id of `changed`."""
    value = _value(base, changed, facts)
    known = {
        rule.id: (rule, seen)
        for rule in base.rules.velocity
        for seen in facts.velocities
        if seen.rule_id == rule.id
    }
    same_rates = base.rules.amount.assumed_per_euro == changed.rules.amount.assumed_per_euro
    low, high, doubts = [], [], []
    for rule in changed.rules.velocity:
        if rule.scope is Scope.PAYER and not has_payer:
            continue
        least, most = _observed(rule, known.get(rule.id), value, same_rates, shifts.get(rule.id, Shift()))
        low.append(least)
        high.append(most)
        if least != most:
            doubts.append(rule.id)
    at = replace(facts, value=value)
    mildest = decide(changed, replace(at, velocities=tuple(low)))
    harshest = decide(changed, replace(at, velocities=tuple(high)))
    return Reconsidered(mildest, harshest, tuple(doubts))


def _value(base: Policy, changed: Policy, facts: Facts) -> Money | None:
    """The amount in euros: a planning rate is the policy's own and changes with it, a published one stays."""
    assumed = facts.amount.currency in base.rules.amount.assumed_per_euro
    by_base = Valuation({}, "").completed_by(base.rules.amount).value(facts.amount) if assumed else None
    if facts.value != by_base:
        return facts.value
    return Valuation({}, "").completed_by(changed.rules.amount).value(facts.amount)


def _observed(
    rule: VelocityRule,
    known: tuple[VelocityRule, Velocity] | None,
    value: Money | None,
    same_rates: bool,
    shift: Shift,
) -> tuple[Velocity, Velocity]:
    """The least and the most this rule would have seen. The payment itself is always seen."""
    own = Money(0, EURO) if value is None else value
    fewest, most = 1, _COUNTLESS
    least, largest = own, _ENDLESS
    unvalued: tuple[str, ...] = ()
    if known is not None and known[0].scope is rule.scope:
        asked, seen = known
        unvalued = seen.unvalued
        if asked.highest_count:
            stopped = seen.count > asked.highest_count
            counts = (seen.count, _COUNTLESS if stopped else seen.count)
            fewest, most = _within(asked, rule, counts, 1, _COUNTLESS)
        if seen.amount is not None and same_rates:
            cents = _within(asked, rule, (seen.amount.minor, seen.amount.minor), own.minor, _ENDLESS.minor)
            least, largest = Money(cents[0], EURO), Money(cents[1], EURO)
    return _ends(rule, (fewest, most), (least, largest), own, unvalued, shift)


def _within(
    asked: VelocityRule, rule: VelocityRule, seen: tuple[int, int], floor: int, ceiling: int
) -> tuple[int, int]:
    """A longer window saw at least as much, a shorter one at most as much."""
    if rule.window_seconds > asked.window_seconds:
        return seen[0], ceiling
    if rule.window_seconds < asked.window_seconds:
        return floor, seen[1]
    return seen


def _ends(
    rule: VelocityRule,
    counts: tuple[int, int],
    amounts: tuple[Money, Money],
    own: Money,
    unvalued: tuple[str, ...],
    shift: Shift,
) -> tuple[Velocity, Velocity]:
    """Both ends as `decide` takes them: what the rule does not limit is not observed."""
    fewest, most = max(1, counts[0] - shift.fewer), min(_COUNTLESS, counts[1] + shift.more)
    least = Money(max(own.minor, amounts[0].minor - shift.less_minor), EURO)
    largest = Money(min(_ENDLESS.minor, amounts[1].minor + shift.more_minor), EURO)
    if shift.boundless:
        least, largest = own, _ENDLESS

    def seen(count: int, amount: Money) -> Velocity:
        counted = count if rule.highest_count else 0
        return Velocity(rule.id, counted, amount if rule.limits_amount else None, unvalued)

    return seen(fewest, least), seen(most, largest)
