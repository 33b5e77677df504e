"""Claims about a changed risk policy on recorded facts: what was recorded decides, what was not leaves both ends open."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.money import Money
from corridor.risk.counterfactual import Reconsidered, Shift, reconsider
from corridor.risk.decide import Facts, Velocity, Verdict, decide
from corridor.risk.policy import Policy, Rules
from corridor.risk.recorded import Recorded, facts_of, is_reproduced, money_of
from workers.whatif.policy import known, laid_over

(BASE, DOCUMENT), *_ = known().values()
LIMITING = {rule.id: rule for rule in BASE.rules.velocity}


def euros(minor: int) -> Money:
    return Money(minor, "EUR")


def facts(value_minor: int = 10_000, **counts: int) -> Facts:
    """An ordinary payment; `counts` by rule, with dashes as underscores."""
    return Facts(
        amount=euros(value_minor),
        value=euros(value_minor),
        valuation="ECB 2026-10-30",
        source_country="DE",
        destination_country="CN",
        corridor="DE-EUR>CN-CNY",
        velocities=tuple(
            Velocity(
                rule.id,
                counts.get(rule.id.replace("-", "_"), 1) if rule.highest_count else 0,
                euros(value_minor) if rule.limits_amount else None,
            )
            for rule in BASE.rules.velocity
        ),
    )


def changed(**part: Any) -> Policy:
    return Policy(Rules.model_validate(laid_over(DOCUMENT, part)), "changed")


def again(policy: Policy, seen: Facts, **shifts: Shift) -> Reconsidered:
    by_rule = {name.replace("_", "-"): shift for name, shift in shifts.items()}
    return reconsider(BASE, policy, seen, True, by_rule)


def rule(rule_id: str, **limits: Any) -> dict[str, Any]:
    return {"velocity": [{"id": rule_id, **limits}]}


def test_the_same_policy_decides_the_same() -> None:
    for seen in (facts(), facts(600_000), facts(instrument_10m=9), facts(instrument_10m=13)):
        judged = again(BASE, seen)
        assert judged.is_certain
        assert judged.mildest == decide(BASE, seen)


@pytest.mark.parametrize(("value", "verdict"), [(9_999, Verdict.ACCEPT), (10_001, Verdict.REVIEW)])
def test_a_lower_amount_limit_is_told_to_the_cent(value: int, verdict: Verdict) -> None:
    judged = again(changed(amount={"review_above_eur": "100.00"}), facts(value))
    assert (judged.is_certain, judged.mildest.verdict) == (True, verdict)


def test_a_lower_count_limit_is_told_by_the_recorded_count() -> None:
    tighter = changed(**rule("instrument-10m", review_above_count=2, decline_above_count=5))
    verdicts = [again(tighter, facts(instrument_10m=count)).mildest.verdict for count in (2, 3, 6)]
    assert verdicts == [Verdict.ACCEPT, Verdict.REVIEW, Verdict.DECLINE]
    assert again(tighter, facts(instrument_10m=6)).is_certain


def test_a_count_that_stopped_at_the_old_limit_does_not_tell_about_a_higher_one() -> None:
    looser = changed(**rule("instrument-10m", review_above_count=20, decline_above_count=40))
    judged = again(looser, facts(instrument_10m=13))
    assert (judged.is_certain, judged.open_questions) == (False, ("instrument-10m",))
    assert again(looser, facts(instrument_10m=12)).mildest.verdict is Verdict.ACCEPT


def test_a_longer_window_saw_at_least_as_much() -> None:
    longer = changed(**rule("instrument-10m", window_seconds=1_200))
    assert not again(longer, facts(instrument_10m=2)).is_certain
    declined = again(longer, facts(instrument_10m=13))
    assert (declined.is_certain, declined.mildest.verdict) == (True, Verdict.DECLINE)


def test_a_shorter_window_saw_at_most_as_much() -> None:
    shorter = changed(**rule("instrument-10m", window_seconds=60))
    accepted = again(shorter, facts(instrument_10m=2))
    assert (accepted.is_certain, accepted.mildest.verdict) == (True, Verdict.ACCEPT)
    assert not again(shorter, facts(instrument_10m=13)).is_certain


def test_a_rule_nobody_observed_is_open_unless_something_else_declines() -> None:
    new = changed(**rule("merchant-1h", scope="merchant", window_seconds=3_600, decline_above_count=10))
    assert again(new, facts()).open_questions == ("merchant-1h",)
    assert not again(new, facts()).is_certain
    assert again(new, facts(2_000_001)).is_certain


def test_a_sum_nobody_took_is_open_but_never_below_the_payment_itself() -> None:
    summing = changed(**rule("instrument-10m", decline_above_eur="50.00"))
    judged = again(summing, facts(10_000))
    assert (judged.is_certain, judged.mildest.verdict) == (True, Verdict.DECLINE)
    assert not again(changed(**rule("instrument-10m", decline_above_eur="500.00")), facts(10_000)).is_certain


def test_a_payer_rule_is_left_out_without_a_payer_and_open_with_one() -> None:
    seen = facts()
    nameless = replace(seen, velocities=tuple(it for it in seen.velocities if it.rule_id != "payer-1h"))
    tighter = changed(**rule("payer-1h", review_above_count=1, decline_above_count=2))
    assert reconsider(BASE, tighter, nameless, False, {}).is_certain


def test_earlier_payments_that_would_have_failed_leave_a_sum_open_both_ways() -> None:
    tighter = changed(**rule("instrument-24h", review_above_eur="80.00", decline_above_eur="400.00"))
    assert again(tighter, facts(10_000)).mildest.verdict is Verdict.REVIEW
    seen = facts(5_000)
    high = replace(
        seen,
        velocities=tuple(
            replace(it, amount=euros(12_000)) if it.rule_id == "instrument-24h" else it
            for it in seen.velocities
        ),
    )
    assert again(tighter, high).is_certain
    assert not again(tighter, high, instrument_24h=Shift(less_minor=7_000)).is_certain
    assert again(tighter, high, instrument_24h=Shift(less_minor=1_000)).is_certain


def test_a_planning_rate_changes_only_what_was_valued_with_it() -> None:
    cheaper = changed(amount={"assumed_per_euro": {"AED": "0.001"}})
    dirhams = replace(facts(), amount=Money(41_000, "AED"), value=euros(10_000))
    assert again(cheaper, dirhams).mildest.verdict is Verdict.DECLINE
    published = replace(facts(), amount=Money(41_000, "AED"), value=euros(10_001))
    assert again(cheaper, published).mildest.inputs["value"] == "100.01 EUR"


@given(
    st.integers(1, 2_500_000),
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from(["DE", "KP", "MM", "RU"]),
)
def test_every_recorded_decision_reproduces_itself(value: int, short: int, day: int, country: str) -> None:
    seen = replace(facts(value, instrument_10m=short, instrument_24h=day), source_country=country)
    made = decide(BASE, seen)
    reasons = [reason.as_data() for reason in made.reasons]
    recorded = Recorded(made.verdict, made.policy_version, reasons, made.inputs)
    assert facts_of(made.inputs) == seen
    assert is_reproduced(BASE, recorded)
    for broken in (
        replace(recorded, verdict=Verdict.DECLINE if made.verdict is Verdict.ACCEPT else Verdict.ACCEPT),
        replace(recorded, reasons=[*reasons, {"code": "planted"}]),
        replace(recorded, policy_version="2020-01-01+0"),
        replace(recorded, inputs={**made.inputs, "value": "99999.00 EUR"}),
    ):
        assert not is_reproduced(BASE, broken)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["EUR", "JPY", "KWD", "CLF"]))
def test_money_is_read_back_as_it_was_written(minor: int, currency: str) -> None:
    assert money_of(str(Money(minor, currency))) == Money(minor, currency)


@given(
    counts=st.tuples(st.integers(1, 40), st.integers(1, 100)),
    truth=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    limits=st.tuples(st.integers(1, 30), st.integers(30, 60)),
)
def test_what_is_called_certain_holds_for_every_past_that_fits(
    counts: tuple[int, int], truth: tuple[int, int], limits: tuple[int, int]
) -> None:
    """The count the changed rule would really have seen lies anywhere the record allows; certainty covers them all."""
    tighter = changed(**rule("instrument-10m", review_above_count=limits[0], decline_above_count=limits[1]))
    stop = LIMITING["instrument-10m"].highest_count + 1
    really = counts[0]
    judged = again(tighter, facts(instrument_10m=min(really, stop)), instrument_10m=Shift(*truth))
    for count in range(max(1, really - truth[0]), really + truth[1] + 1):
        actual = decide(tighter, facts(instrument_10m=count)).verdict
        assert judged.mildest.verdict.severity <= actual.severity <= judged.harshest.verdict.severity
