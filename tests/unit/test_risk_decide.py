"""Claims about the pure risk decision: every rule speaks, the worst verdict wins, worse facts never help."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corridor.domain.failure import InvariantBroken
from corridor.domain.money import Money
from corridor.risk.decide import Decision, Facts, ReasonCode, Velocity, Verdict, decide
from corridor.risk.policy import Policy, Scope, shipped

POLICY: Policy = shipped().in_force(datetime(2026, 11, 22, tzinfo=UTC))
RULES = {rule.id: rule for rule in POLICY.rules.velocity}


def euros(minor: int) -> Money:
    return Money(minor, "EUR")


def quiet(rule_id: str) -> Velocity:
    return Velocity(rule_id, 1, euros(10_000) if RULES[rule_id].limits_amount else None)


ORDINARY = Facts(
    amount=Money(11_172, "USD"),
    value=euros(10_000),
    valuation="ECB 2026-10-30",
    source_country="US",
    destination_country="CN",
    corridor="US-USD>CN-CNY",
    velocities=tuple(quiet(rule_id) for rule_id in RULES),
)


def observed(rule_id: str, **seen: object) -> Facts:
    velocities = (replace(it, **seen) if it.rule_id == rule_id else it for it in ORDINARY.velocities)  # type: ignore[arg-type]
    return replace(ORDINARY, velocities=tuple(velocities))


def findings(decision: Decision) -> list[tuple[str, str]]:
    return [(reason.code, reason.rule) for reason in decision.reasons]


def test_an_ordinary_payment_is_accepted_without_reasons() -> None:
    decision = decide(POLICY, ORDINARY)
    assert (decision.verdict, decision.reasons) == (Verdict.ACCEPT, ())
    assert decision.policy_version == POLICY.version


@pytest.mark.parametrize(
    ("value_minor", "verdict"),
    [
        (49, Verdict.DECLINE),
        (50, Verdict.ACCEPT),
        (500_000, Verdict.ACCEPT),
        (500_001, Verdict.REVIEW),
        (2_000_000, Verdict.REVIEW),
        (2_000_001, Verdict.DECLINE),
    ],
)
def test_amount_limits_hold_to_the_cent(value_minor: int, verdict: Verdict) -> None:
    assert decide(POLICY, replace(ORDINARY, value=euros(value_minor))).verdict is verdict


def test_an_amount_without_a_value_waits_for_a_person() -> None:
    decision = decide(POLICY, replace(ORDINARY, value=None))
    assert (decision.verdict, findings(decision)) == (Verdict.REVIEW, [("amount_not_valued", "amount")])


@pytest.mark.parametrize(
    ("count", "verdict"),
    [(8, Verdict.ACCEPT), (9, Verdict.REVIEW), (12, Verdict.REVIEW), (13, Verdict.DECLINE)],
)
def test_velocity_counts_hold_to_the_payment(count: int, verdict: Verdict) -> None:
    decision = decide(POLICY, observed("instrument-10m", count=count))
    assert decision.verdict is verdict


def test_a_velocity_reason_says_what_was_seen_and_the_limit_that_was_passed() -> None:
    (reason,) = decide(POLICY, observed("instrument-24h", amount=euros(4_000_001))).reasons
    assert (reason.code, reason.verdict) == (ReasonCode.VELOCITY_AMOUNT, Verdict.DECLINE)
    assert reason.as_data() == {
        "code": "velocity_amount",
        "verdict": "decline",
        "rule": "velocity.instrument-24h",
        "observed": "40000.01 EUR",
        "limit": "40000.00 EUR",
    }


def test_a_sum_without_a_value_waits_for_a_person() -> None:
    decision = decide(POLICY, observed("payer-1h", unvalued=("CLF",)))
    assert (decision.verdict, findings(decision)) == (
        Verdict.REVIEW,
        [("amount_not_valued", "velocity.payer-1h")],
    )


def test_a_sum_that_is_too_much_even_in_part_is_declined() -> None:
    decision = decide(POLICY, observed("payer-1h", amount=euros(3_000_001), unvalued=("CLF",)))
    assert decision.verdict is Verdict.DECLINE


@pytest.mark.parametrize("side", ["source_country", "destination_country"])
@pytest.mark.parametrize(("country", "verdict"), [("KP", Verdict.DECLINE), ("MM", Verdict.REVIEW)])
def test_country_rules_look_at_both_ends(side: str, country: str, verdict: Verdict) -> None:
    facts = replace(ORDINARY, **{side: country})  # type: ignore[arg-type]
    assert decide(POLICY, facts).verdict is verdict


def test_a_closed_corridor_is_declined() -> None:
    decision = decide(POLICY, replace(ORDINARY, corridor="US-USD>CN-USD"))
    assert (decision.verdict, findings(decision)) == (
        Verdict.DECLINE,
        [("corridor_not_enabled", "corridors.enabled")],
    )


def test_every_finding_is_named_not_only_the_first() -> None:
    facts = replace(
        observed("instrument-10m", count=13),
        value=euros(500_001),
        source_country="IR",
        destination_country="MM",
    )
    decision = decide(POLICY, facts)
    assert decision.verdict is Verdict.DECLINE
    assert findings(decision) == [
        ("country_blocked", "countries.blocked.source"),
        ("country_review", "countries.review.destination"),
        ("amount_above_review", "amount.review_above_eur"),
        ("velocity_count", "velocity.instrument-10m"),
    ]


def test_payer_rules_need_a_payer_and_the_others_always_speak() -> None:
    payerless = tuple(it for it in ORDINARY.velocities if RULES[it.rule_id].scope is not Scope.PAYER)
    assert decide(POLICY, replace(ORDINARY, velocities=payerless)).verdict is Verdict.ACCEPT
    with pytest.raises(InvariantBroken):
        decide(POLICY, replace(ORDINARY, velocities=()))


AMOUNTS = st.integers(0, 5_000_000).map(euros)
UNVALUED = st.sampled_from([(), ("CLF",)])
COUNTRIES = st.sampled_from(["DE", "US", "CN", "MM", "KP", "IR"])


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    velocities = tuple(
        Velocity(
            rule.id,
            draw(st.integers(1, 15_000)),
            draw(AMOUNTS) if rule.limits_amount else None,
            draw(UNVALUED) if rule.limits_amount else (),
        )
        for rule in RULES.values()
    )
    return replace(
        ORDINARY,
        value=draw(st.one_of(st.none(), st.integers(1, 3_000_000).map(euros))),
        source_country=draw(COUNTRIES),
        destination_country=draw(COUNTRIES),
        corridor=draw(st.sampled_from(["US-USD>CN-CNY", "US-USD>CN-USD", "RU-EUR>CN-CNY"])),
        velocities=velocities,
    )


@given(facts(), facts())
def test_worse_facts_never_give_a_milder_verdict(some: Facts, other: Facts) -> None:
    worse = replace(
        some,
        # Below the minimum is declined too, so "more" is only worse from the minimum on.
        value=max(filter(None, (some.value, other.value)), key=lambda it: it.minor, default=None)
        if some.value and some.value.minor >= 50
        else some.value,
        velocities=tuple(
            Velocity(
                mine.rule_id,
                max(mine.count, theirs.count),
                _more(mine.amount, theirs.amount),
                mine.unvalued or theirs.unvalued,
            )
            for mine, theirs in zip(some.velocities, other.velocities, strict=True)
        ),
    )
    assert decide(POLICY, worse).verdict.severity >= decide(POLICY, some).verdict.severity


def _more(mine: Money | None, theirs: Money | None) -> Money | None:
    return mine if mine is None or theirs is None else max(mine, theirs, key=lambda it: it.minor)


@given(facts())
def test_a_blocked_country_is_declined_whatever_else_is_true(some: Facts) -> None:
    assert decide(POLICY, replace(some, source_country="KP")).verdict is Verdict.DECLINE


@given(facts())
def test_the_verdict_is_the_worst_reason_and_the_same_every_time(some: Facts) -> None:
    decision = decide(POLICY, some)
    assert decision == decide(POLICY, some)
    worst = max((reason.verdict.severity for reason in decision.reasons), default=0)
    assert decision.verdict.severity == worst
