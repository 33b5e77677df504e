"""Risk under a changed policy, payment by payment in the order they were judged."""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from corridor.risk.counterfactual import Reconsidered, Shift, reconsider
from corridor.risk.decide import Verdict
from corridor.risk.policy import Policy, Scope
from corridor.risk.recorded import facts_of
from workers.whatif.finding import Finding, Result, lost
from workers.whatif.past import Past
from workers.whatif.policy import Change, known

NO_POLICY = "the policy it was judged under is not installed here"
NOT_RECORDED = "what the changed rules would have observed was not recorded"
NEVER_SENT = "it was stopped then: what the provider would have answered was never asked"
NEVER_REVIEWED = "a person would have been asked, and nobody was"
STILL_OPEN = "a person is still being asked"
BOOKED_OTHERWISE = "what was booked does not follow from the fee and rate at hand"


@dataclass(frozen=True)
class _Other:
    """An earlier payment that another policy treats, or may treat, otherwise."""

    created_at: datetime
    value_minor: int | None
    was_in: bool
    may_be_in: bool


def _created_at(other: _Other) -> datetime:
    return other.created_at


@dataclass
class RiskReplay:
    """Judges payments one after another and remembers which of them would have gone another way.

    `others` are kept by creation: a busy merchant has many, and a window takes the newest few.
    """

    change: Change
    others: dict[tuple[Scope, str], list[_Other]] = field(default_factory=lambda: defaultdict(list))
    policies: dict[str, Policy] = field(default_factory=dict)

    def judge(self, past: Past) -> Finding:
        """The recorded verdict against the one of the changed policy."""
        base = known().get(past.recorded.policy_version)
        was = str(past.recorded.verdict)
        if base is None:
            return Finding("risk", Result.NOT_OBSERVABLE, was, "?", NO_POLICY, past.recorded.policy_version)
        changed = self._changed(past.recorded.policy_version)
        has_payer = past.payment.payer_reference is not None
        facts = facts_of(past.recorded.inputs)
        again = reconsider(base[0], changed, facts, has_payer, self._shifts(past, changed))
        return _finding(past, again)

    def remember(self, past: Past, finding: Finding | None, ends_otherwise: bool) -> None:
        """Later payments of the same instrument, payer or merchant may have observed something else."""
        value = facts_of(past.recorded.inputs).value
        was_in = past.recorded.verdict is not Verdict.DECLINE
        may_be_in = finding is None or not finding.ends_payment
        in_doubt = finding is not None and finding.result is Result.NOT_OBSERVABLE
        if not (ends_otherwise or in_doubt or not may_be_in):
            return
        other = _Other(past.payment.created_at, None if value is None else value.minor, was_in, may_be_in)
        for key in _keys(past):
            insort(self.others[key], other, key=_created_at)

    def _changed(self, version: str) -> Policy:
        if version not in self.policies:
            self.policies[version] = self.change.risk_over(version)
        return self.policies[version]

    def _shifts(self, past: Past, changed: Policy) -> Mapping[str, Shift]:
        keys = {scope: (scope, text) for scope, text in _keys(past)}
        return {
            rule.id: _shift(past, self.others[keys[rule.scope]], rule.window_seconds)
            for rule in changed.rules.velocity
            if rule.scope in keys and keys[rule.scope] in self.others
        }


def _keys(past: Past) -> Iterator[tuple[Scope, str]]:
    row = past.payment
    yield Scope.INSTRUMENT, row.instrument
    yield Scope.MERCHANT, row.merchant_id
    if row.payer_reference is not None:
        yield Scope.PAYER, f"{row.merchant_id}:{row.payer_reference}"


def _shift(past: Past, others: list[_Other], window_seconds: int) -> Shift:
    """Payments created before this one are counted however they ended; later ones only if they were let through."""
    begin = past.payment.created_at - timedelta(seconds=window_seconds)
    near = others[bisect_right(others, begin, key=_created_at) :]
    later = [it for it in near if it.created_at > past.payment.created_at]
    return Shift(
        fewer=sum(it.was_in for it in later),
        more=sum(it.may_be_in and not it.was_in for it in later),
        less_minor=sum(it.value_minor or 0 for it in near if it.was_in),
        more_minor=sum(it.value_minor or 0 for it in near if it.may_be_in and not it.was_in),
        boundless=any(it.value_minor is None for it in near),
    )


def _finding(past: Past, again: Reconsidered) -> Finding:
    was, would = past.recorded.verdict, again.mildest.verdict
    if not again.is_certain:
        text = f"{would} or {again.harshest.verdict}"
        rules = ", ".join(again.open_questions)
        return Finding("risk", Result.NOT_OBSERVABLE, str(was), text, NOT_RECORDED, f"rules {rules}")
    why = "; ".join(f"{it.rule}: {it.observed} against {it.limit}" for it in again.mildest.reasons)
    if was is would:
        return Finding("risk", Result.UNCHANGED, str(was), str(would), detail=why)
    return _consequence(past, was, would, why or "no rule objects")


def _consequence(past: Past, was: Verdict, would: Verdict, detail: str) -> Finding:
    """What the other verdict makes of the payment, as far as the past can tell."""

    def unseen(why: str) -> Finding:
        return Finding("risk", Result.NOT_OBSERVABLE, _then(past, was), str(would), why, detail)

    if would is Verdict.DECLINE:
        if not past.money_is_known:
            return unseen(BOOKED_OTHERWISE)
        return Finding(
            "risk",
            Result.CHANGED,
            _then(past, was),
            str(would),
            "it would have been declined",
            detail,
            lost(past),
            True,
        )
    if was is Verdict.DECLINE:
        return unseen(NEVER_SENT)
    if would is Verdict.REVIEW:
        return unseen(NEVER_REVIEWED)
    if past.reviewer == "approve":
        return Finding(
            "risk", Result.CHANGED, _then(past, was), str(would), "nobody would have been asked", detail
        )
    return unseen(STILL_OPEN if past.reviewer == "open" else NEVER_SENT)


def _then(past: Past, was: Verdict) -> str:
    return f"{was} ({past.reviewer})" if was is Verdict.REVIEW and past.reviewer else str(was)
